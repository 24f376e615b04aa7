"""Shear and shift an image row by row, as Pillow's bicubic transform does but in a quarter of time.

Pillow weighs 4 x 4 pixels for every pixel. A shear or a shift along the rows needs 4 of them, whose
weights are the same in a whole row. Results differ by a level of 255 at most, since Pillow computes
in double precision and both drop the fraction at the end.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from timm.data.auto_augment import AugmentOp

_TAPS = 4


def use_row_shifts(operations: Sequence[AugmentOp]) -> None:
    """Replace timm's shears and translations in a policy.

    Args:
        operations: Operations of the policy.
    """
    for operation in operations:
        operation.aug_fn = _FUNCTIONS.get(operation.name, operation.aug_fn)


def shift_rows(
    pixels: UInt8[np.ndarray, "H W 3"], offsets: Float64[np.ndarray, " H"], fill: Sequence[int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Take every row from further right, by a number of pixels of its own.

    Args:
        pixels: The image.
        offsets: Number of pixels for each row; negative from the left.
        fill: Colour of what comes from outside.
    """
    height, width, _ = pixels.shape
    # Beyond this a row is all outside.
    whole = np.floor(offsets).clip(-width - 1, width + 1).astype(np.int64)
    part = torch.from_numpy((offsets - np.floor(offsets)).astype(np.float32))[:, None]
    squared, cubed = part**2, part**3
    # Pillow's cubic kernel of transforms, a = -1 (that of its resizing has a = -1/2).
    weights = (
        -part + 2 * squared - cubed,
        1 - 2 * squared + cubed,
        part + squared - cubed,
        cubed - squared,
    )
    margin = int(np.abs(whole).max()) + _TAPS
    padded = np.pad(pixels, ((0, 0), (margin, margin), (0, 0)), mode="edge").reshape(height, -1)
    windows = sliding_window_view(padded, 3 * (width + _TAPS - 1), axis=1)
    rows = torch.from_numpy(windows[np.arange(height), 3 * (margin + whole - 1)]).float()
    total = rows[:, : 3 * width] * weights[0]
    for tap in range(1, _TAPS):
        total.addcmul_(rows[:, 3 * tap : 3 * (tap + width)], weights[tap])
    shifted = total.clamp_(0, 255).to(torch.uint8).numpy().reshape(pixels.shape)
    source = np.arange(width) + 0.5 + offsets[:, None]
    inside = (source >= 0) & (source < width)
    return np.where(inside[:, :, None], shifted, np.array(fill, dtype=np.uint8))


def _along_rows(
    image: Image.Image, offsets: Float64[np.ndarray, " H"], fill: Sequence[int]
) -> Image.Image:
    return Image.fromarray(shift_rows(np.asarray(image), offsets, fill))


def _along_columns(
    image: Image.Image, offsets: Float64[np.ndarray, " W"], fill: Sequence[int]
) -> Image.Image:
    turned = np.ascontiguousarray(np.asarray(image).transpose(1, 0, 2))
    shifted = shift_rows(turned, offsets, fill)
    return Image.fromarray(np.ascontiguousarray(shifted.transpose(1, 0, 2)))


# What timm gives to every operation: the image, the level, and how Pillow is to fill and resample.
_Operation = Callable[..., Image.Image]


def _shear_x(
    image: Image.Image, factor: float, *, fillcolor: Sequence[int], resample: object
) -> Image.Image:
    del resample  # bicubic in every policy of ours
    return _along_rows(image, factor * (np.arange(image.height) + 0.5), fillcolor)


def _shear_y(
    image: Image.Image, factor: float, *, fillcolor: Sequence[int], resample: object
) -> Image.Image:
    del resample
    return _along_columns(image, factor * (np.arange(image.width) + 0.5), fillcolor)


def _translate_x(
    image: Image.Image, pixels: float, *, fillcolor: Sequence[int], resample: object
) -> Image.Image:
    del resample
    return _along_rows(image, np.full(image.height, float(pixels)), fillcolor)


def _translate_y(
    image: Image.Image, pixels: float, *, fillcolor: Sequence[int], resample: object
) -> Image.Image:
    del resample
    return _along_columns(image, np.full(image.width, float(pixels)), fillcolor)


def _translate_x_relative(
    image: Image.Image, share: float, *, fillcolor: Sequence[int], resample: object
) -> Image.Image:
    return _translate_x(image, share * image.width, fillcolor=fillcolor, resample=resample)


def _translate_y_relative(
    image: Image.Image, share: float, *, fillcolor: Sequence[int], resample: object
) -> Image.Image:
    return _translate_y(image, share * image.height, fillcolor=fillcolor, resample=resample)


_FUNCTIONS: dict[str, _Operation] = {
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "TranslateXRel": _translate_x_relative,
    "TranslateYRel": _translate_y_relative,
}
"""timm's names of the operations."""
