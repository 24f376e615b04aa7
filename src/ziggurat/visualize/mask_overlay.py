"""Lay a mask over a picture so that it can be seen on any background.

Inside, the picture shines through the colour of the object. Along the edge runs a line of the full
colour, and outside of it a dark one: on a bright wall the dark line shows where the object ends, at
night the bright one does, and two neighbours of one class stay apart.
"""

import numpy as np
from jaxtyping import Bool
from PIL import Image

Colour = tuple[int, int, int]

_INSIDE = 90
"""How much of 255 the colour covers inside."""
_DARK: Colour = (20, 20, 20)
_DARK_COVERS = 200


def lay_mask(
    canvas: Image.Image,
    crop: Bool[np.ndarray, "h w"],
    corner: tuple[int, int],
    factor: int,
    colour: Colour,
    line: int,
) -> None:
    """Draw one mask onto a picture.

    Args:
        canvas: The picture, `factor` times as large as the image that the mask belongs to.
        crop: Content of the mask's window.
        corner: Left and top of the window, in pixels of the image.
        factor: Pixels of the picture for one of the image, along each side.
        colour: R, G, B.
        line: Width of the line along the edge, in pixels of the picture.
    """
    if not crop.any():
        return
    edge = max(1, line // 2)
    mask = np.pad(crop.repeat(factor, axis=0).repeat(factor, axis=1), edge)
    inner = _shrink(mask, line)
    covers = np.where(inner, np.uint8(_INSIDE), np.uint8(255)) * mask
    left, top = corner[0] * factor - edge, corner[1] * factor - edge
    box = (left, top, left + mask.shape[1], top + mask.shape[0])
    outside = ~_shrink(~mask, edge) & ~mask
    canvas.paste(_DARK, box, Image.fromarray(np.uint8(outside) * np.uint8(_DARK_COVERS)))
    canvas.paste(colour, box, Image.fromarray(covers))


def _shrink(mask: Bool[np.ndarray, "h w"], margin: int) -> Bool[np.ndarray, "h w"]:
    """Keep the pixels whose whole neighbourhood is set; beyond the array all is set."""
    side = 2 * margin + 1
    for axis in (0, 1):
        width = [(margin + 1, margin) if axis == other else (0, 0) for other in (0, 1)]
        # Sums of a sliding window from running sums: as fast for a thick line as for a thin one.
        sums = np.pad(~mask, width).cumsum(axis=axis, dtype=np.int32)
        length = sums.shape[axis]
        mask = sums.take(range(side, length), axis) == sums.take(range(length - side), axis)
    return mask
