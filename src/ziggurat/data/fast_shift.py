"""Shear and shift an image as Pillow's bicubic transform does, in about half of its time.

Pillow weighs 4 x 4 pixels for every pixel. A shear or a shift along one axis needs 4 of them, whose
weights are the same in a whole row or in the whole image. Results differ by a level of 255 at most:
Pillow computes in double precision, and both drop the fraction at the end.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from timm.data.auto_augment import AugmentOp
from torch import Tensor

Pixels = UInt8[np.ndarray, "H W 3"]
Colour = tuple[int, int, int]
_TAPS = 4


def use_fast_shifts(operations: Sequence[AugmentOp]) -> None:
    """Replace timm's shears and translations in a policy.

    Args:
        operations: Operations of the policy.
    """
    for operation in operations:
        operation.aug_fn = _FUNCTIONS.get(operation.name, operation.aug_fn)


def shear_rows(pixels: Pixels, factor: float, fill: Colour) -> Pixels:
    """Take row y from `factor` * (y + 1/2) pixels further right.

    Args:
        pixels: The image.
        factor: Pixels for each row; negative from the left.
        fill: Colour of what comes from outside.
    """
    height, width, _ = pixels.shape
    offsets = factor * (np.arange(height) + 0.5)
    # Beyond its width a row is all outside.
    whole = np.floor(offsets).clip(-width - 1, width + 1).astype(np.int64)
    margin = int(np.abs(whole).max()) + _TAPS
    padded = _pad_columns(pixels, margin).reshape(height, -1)
    windows = sliding_window_view(padded, 3 * (width + _TAPS - 1), axis=1)
    rows = torch.from_numpy(windows[np.arange(height), 3 * (margin + whole - 1)]).float()
    part = torch.from_numpy((offsets - np.floor(offsets)).astype(np.float32))[:, None]
    first, second, third, fourth = (rows[:, 3 * tap : 3 * (tap + width)] for tap in range(_TAPS))
    sheared = _blend((first, second, third, fourth), part).reshape(pixels.shape)
    # What comes from outside lies on one side.
    reach = min(int(np.abs(offsets).max()) + 1, width)
    columns = slice(width - reach, width) if factor > 0 else slice(0, reach)
    source = np.arange(width)[columns] + 0.5 + offsets[:, None]
    sheared[:, columns][(source < 0) | (source >= width)] = fill
    return sheared


def shift_columns(pixels: Pixels, offset: float, fill: Colour) -> Pixels:
    """Take every column from `offset` pixels further right.

    Args:
        pixels: The image.
        offset: Number of pixels; negative from the left.
        fill: Colour of what comes from outside.
    """
    height, width, _ = pixels.shape
    start = _whole(offset, width)
    margin = abs(start) + _TAPS
    padded = _pad_columns(pixels, margin)[:, margin + start - 1 :][:, : width + _TAPS - 1]
    rows = torch.from_numpy(padded).float().view(height, -1)
    first, second, third, fourth = (rows[:, 3 * tap : 3 * (tap + width)] for tap in range(_TAPS))
    shifted = _blend((first, second, third, fourth), torch.tensor(offset % 1)).reshape(pixels.shape)
    shifted[:, _outside(offset, width)] = fill
    return shifted


def shift_rows(pixels: Pixels, offset: float, fill: Colour) -> Pixels:
    """Take every row from `offset` pixels further down.

    Args:
        pixels: The image.
        offset: Number of pixels; negative from above.
        fill: Colour of what comes from outside.
    """
    height, width, _ = pixels.shape
    start = _whole(offset, height)
    rows = np.arange(start - 1, start + height + _TAPS - 2).clip(0, height - 1)
    padded = torch.from_numpy(pixels[rows].reshape(len(rows), -1)).float()
    first, second, third, fourth = (padded[tap : tap + height] for tap in range(_TAPS))
    shifted = _blend((first, second, third, fourth), torch.tensor(offset % 1)).reshape(pixels.shape)
    shifted[_outside(offset, height)] = fill
    return shifted


def _pad_columns(pixels: Pixels, margin: int) -> UInt8[np.ndarray, "H w 3"]:
    """Repeat the first and the last column; np.pad takes several times as long."""
    height, width, _ = pixels.shape
    padded = np.empty((height, width + 2 * margin, 3), dtype=np.uint8)
    padded[:, :margin] = pixels[:, :1]
    padded[:, margin : margin + width] = pixels
    padded[:, margin + width :] = pixels[:, -1:]
    return padded


def _blend(
    taps: tuple[Tensor, Tensor, Tensor, Tensor], part: Float[Tensor, "..."]
) -> UInt8[np.ndarray, "H row"]:
    """Weigh four neighbours, `part` of a pixel behind the second, and round down to bytes."""
    squared, cubed = part**2, part**3
    # Pillow's cubic kernel of transforms, a = -1 (that of its resizing has a = -1/2).
    total = taps[0] * (-part + 2 * squared - cubed)
    total.addcmul_(taps[1], 1 - 2 * squared + cubed)
    total.addcmul_(taps[2], part + squared - cubed)
    total.addcmul_(taps[3], cubed - squared)
    return total.clamp_(0, 255).to(torch.uint8).numpy()


def _whole(offset: float, side: int) -> int:
    return int(np.clip(np.floor(offset), -side - 1, side + 1))


def _outside(offset: float, side: int) -> slice:
    """Pixels whose middle comes from outside."""
    if offset > 0:
        return slice(max(int(np.ceil(side - 0.5 - offset)), 0), side)
    return slice(0, min(max(int(np.ceil(-offset - 0.5)), 0), side))


# timm gives to every operation the image, the level, and how Pillow is to fill and to resample,
# which is bicubic here.


def _shear_x(
    image: Image.Image, factor: float, *, fillcolor: Colour, resample: object
) -> Image.Image:
    del resample
    return Image.fromarray(shear_rows(np.asarray(image), factor, fillcolor))


def _shear_y(
    image: Image.Image, factor: float, *, fillcolor: Colour, resample: object
) -> Image.Image:
    del resample
    turned = np.asarray(image.transpose(Image.Transpose.TRANSPOSE))
    sheared = Image.fromarray(shear_rows(turned, factor, fillcolor))
    return sheared.transpose(Image.Transpose.TRANSPOSE)


def _translate_x(
    image: Image.Image, pixels: float, *, fillcolor: Colour, resample: object
) -> Image.Image:
    del resample
    return Image.fromarray(shift_columns(np.asarray(image), pixels, fillcolor))


def _translate_y(
    image: Image.Image, pixels: float, *, fillcolor: Colour, resample: object
) -> Image.Image:
    del resample
    return Image.fromarray(shift_rows(np.asarray(image), pixels, fillcolor))


def _translate_x_relative(
    image: Image.Image, share: float, *, fillcolor: Colour, resample: object
) -> Image.Image:
    return _translate_x(image, share * image.width, fillcolor=fillcolor, resample=resample)


def _translate_y_relative(
    image: Image.Image, share: float, *, fillcolor: Colour, resample: object
) -> Image.Image:
    return _translate_y(image, share * image.height, fillcolor=fillcolor, resample=resample)


_FUNCTIONS: dict[str, Callable[..., Image.Image]] = {
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "TranslateXRel": _translate_x_relative,
    "TranslateYRel": _translate_y_relative,
}
"""timm's names of the operations."""
