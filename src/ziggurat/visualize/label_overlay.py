"""A label map on its photo: colours of the classes, dark lines between them, names below.

Shapes: H x W pixels, K classes.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image

from ziggurat.ops.label_counts import count_labels
from ziggurat.visualize.label_comparison import legend
from ziggurat.visualize.text import font
from ziggurat.visualize.visible_labels import NOTHING

COVERS = 0.55
"""How much of the photo a colour hides."""
BORDER = 0.4
"""Brightness of the pixels at which a class ends, so that neighbours of like colours stay apart."""
READABLE_SIDE = 480
"""Pictures whose long side is shorter than this, in pixels, are enlarged by a whole factor."""
ROWS_AT_ONCE = 256
"""Rows of pixels that are mixed at once: as real numbers a large photo takes gigabytes."""


def draw_labels(
    image: Image.Image,
    labels: UInt8[np.ndarray, "H W"],
    classes: Sequence[str],
    colours: Integer[np.ndarray, "K 3"],
    *,
    legend_rows: int | None = None,
) -> Image.Image:
    """Lay the classes on a photo and name those that occur, the largest first.

    Args:
        image: RGB image.
        labels: Class of each of its pixels, 255 where there is none.
        classes: Name of each class.
        colours: Red, green and blue of each class.
        legend_rows: Rows for the names; by default as many as they need.

    Raises:
        ValueError: If image and labels differ in size.
    """
    if labels.shape != (image.height, image.width):
        raise ValueError(
            f"labels must have the size of the image, {image.height} x {image.width}, got "
            f"{labels.shape}"
        )
    table = np.zeros((NOTHING + 1, 3), dtype=np.float32)
    table[: len(colours)] = colours
    is_border = _borders(labels)
    pixels = np.array(image.convert("RGB"))
    for top in range(0, len(pixels), ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        _cover(pixels[rows], labels[rows], is_border[rows], table)
    picture = Image.fromarray(pixels)
    factor = max(1, -(-READABLE_SIDE // max(image.size)))
    if factor > 1:
        picture = picture.resize((image.width * factor, image.height * factor))
    counts = count_labels(labels, NOTHING)
    present = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]]
    width = max(picture.width, READABLE_SIDE)
    letters = font(max(13, round(width / 48)))
    names = legend(present, classes, colours, letters, width, rows=legend_rows)
    canvas = Image.new("RGB", (width, picture.height + names.height), names.getpixel((0, 0)))
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    canvas.paste(names, (0, picture.height))
    return canvas


def _cover(
    pixels: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "H W"],
    is_border: Bool[np.ndarray, "H W"],
    table: Float[np.ndarray, "256 3"],
) -> None:
    """Lay colours and borders on pixels, in place."""
    mixed = pixels * np.float32(1 - COVERS) + COVERS * table[labels]
    mixed[labels == NOTHING] = pixels[labels == NOTHING]
    mixed[is_border] *= BORDER
    pixels[:] = mixed.round().clip(0, 255)


def _borders(labels: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Tell which pixels have another class at their right or below them."""
    is_border = np.zeros(labels.shape, dtype=bool)
    is_border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    is_border[:-1] |= labels[:-1] != labels[1:]
    return is_border
