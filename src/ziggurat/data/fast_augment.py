"""timm's RandAugment and AutoAugment on arrays of bytes, by OpenCV, in a third of Pillow's time.

Levels of 255 that an operation is off Pillow's:

    colours            none, or one where Pillow drops a fraction
    shifts, sharpness  one at most
    turns, shears      half of one on average; by more at hard edges, since OpenCV's cubic kernel
                       has a = -3/4 and not -1, and beside what comes from outside, which OpenCV
                       blends and Pillow cuts off
"""

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from timm.data.auto_augment import AutoAugment, RandAugment

from ziggurat.data.classification import operations_of

Pixels = UInt8[np.ndarray, "H W 3"]
Colour = tuple[int, int, int]
OnPixels = Callable[[Pixels], Pixels]
Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Position (x, y) in the image for a position in what comes out: its rows times (x, y, 1)."""

# A worker has one core, and OpenCV's threads do not survive the fork that makes a worker.
cv2.setNumThreads(0)

_DOWN = -0.499
"""Pillow drops the fraction that OpenCV rounds; whole numbers stay what they are."""
_SMOOTHING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13
_VALUES = np.arange(256)


def on_pixels(step: Callable[..., Image.Image]) -> OnPixels:
    """Return a step of a training transform for arrays.

    Args:
        step: What takes and returns an image of Pillow; the operations of a policy are replaced,
            any other step is run on an image.
    """
    if isinstance(step, RandAugment | AutoAugment):
        for operation in operations_of(step):
            slow = partial(_by_pillow, cast(Callable[..., Image.Image], operation.aug_fn))
            operation.aug_fn = _OPERATIONS.get(operation.name, slow)
        policy: OnPixels = step
        return policy
    return partial(_by_pillow, step)


def _by_pillow(
    function: Callable[..., Image.Image], pixels: Pixels, *args: object, **options: object
) -> Pixels:
    return np.array(function(Image.fromarray(pixels), *args, **options))


def warp(pixels: Pixels, matrix: Matrix, fill: Colour) -> Pixels:
    """Take every pixel from where a matrix says, by a bicubic kernel.

    Args:
        pixels: The image.
        matrix: Between positions whose 0 is the outer edge of the first pixel, as Pillow counts.
        fill: Colour of what comes from outside.
    """
    between_edges = np.array(matrix, dtype=np.float64)
    # OpenCV counts from the middle of the first pixel.
    between_middles = between_edges.copy()
    between_middles[:, 2] += between_edges[:, :2].sum(axis=1) / 2 - 0.5
    warped: np.ndarray = cv2.warpAffine(
        pixels,
        between_middles,
        (pixels.shape[1], pixels.shape[0]),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=fill,
    )
    return warped


def shift(pixels: Pixels, offset: float, axis: int, fill: Colour) -> Pixels:
    """Take every pixel from `offset` pixels further along an axis, by Pillow's bicubic kernel.

    Args:
        pixels: The image.
        offset: Number of pixels; negative from the other side.
        axis: 0 from further down, 1 from further right.
        fill: Colour of what comes from outside.
    """
    side = pixels.shape[axis]
    # Pixels whose middle comes from inside.
    first = max(0, math.ceil(-0.5 - offset))
    last = min(side, math.ceil(side - 0.5 - offset))
    if first >= last:
        return np.full_like(pixels, fill)
    whole = math.floor(offset)
    kernel = _cubic_weights(offset - whole)
    blended = cv2.filter2D(
        _add_margin(pixels, axis, 1, 0, cv2.BORDER_REPLICATE),
        -1,
        kernel[:, None] if axis == 0 else kernel[None],
        anchor=(0, 1) if axis == 0 else (1, 0),
        delta=_DOWN,
        borderType=cv2.BORDER_REPLICATE,
    )
    inside = slice(first + whole + 1, last + whole + 1)  # behind the margin
    part = blended[inside] if axis == 0 else blended[:, inside]
    return _add_margin(part, axis, first, side - last, cv2.BORDER_CONSTANT, fill)


def _add_margin(
    pixels: Pixels, axis: int, before: int, behind: int, kind: int, fill: Colour = (0, 0, 0)
) -> UInt8[np.ndarray, "h w 3"]:
    sides = (before, behind, 0, 0) if axis == 0 else (0, 0, before, behind)
    wider: np.ndarray = cv2.copyMakeBorder(pixels, *sides, kind, value=fill)
    return wider


def sharpen(pixels: Pixels, factor: float) -> Pixels:
    """Add to an image a part of what smoothing takes from it.

    Args:
        pixels: The image.
        factor: 0 gives the smoothed image, 1 the image, 2 one as much sharper.
    """
    smooth = cv2.filter2D(pixels, -1, _SMOOTHING)
    # Pillow's filter leaves the outermost pixels as they are.
    smooth[[0, -1]] = pixels[[0, -1]]
    smooth[:, [0, -1]] = pixels[:, [0, -1]]
    sharpened: np.ndarray = cv2.addWeighted(pixels, factor, smooth, 1 - factor, _DOWN)
    return sharpened


def _cubic_weights(part: float) -> Float[np.ndarray, "4"]:
    """Weights of four neighbours, `part` of a pixel behind the second."""
    squared, cubed = part**2, part**3
    # Pillow's cubic kernel of transforms, a = -1 (that of its resizing has a = -1/2).
    return np.array(
        [
            -part + 2 * squared - cubed,
            1 - 2 * squared + cubed,
            part + squared - cubed,
            cubed - squared,
        ],
        dtype=np.float32,
    )


def auto_contrast(pixels: Pixels) -> Pixels:
    """Stretch each channel from its darkest to its brightest value.

    Args:
        pixels: The image.
    """
    # One axis after the other: NumPy takes fifty times as long for both at once.
    darkest = pixels.min(axis=0).min(axis=0).astype(int)
    brightest = pixels.max(axis=0).max(axis=0).astype(int)
    table = np.tile(_VALUES[:, None], 3)
    for channel, (low, high) in enumerate(zip(darkest, brightest, strict=True)):
        if low < high:
            scale = 255.0 / (high - low)
            table[:, channel] = (_VALUES * scale + -low * scale).clip(0, 255)
    return _look_up(pixels, table)


def equalize(pixels: Pixels) -> Pixels:
    """Give each channel values that are equally frequent.

    Args:
        pixels: The image.
    """
    table = np.tile(_VALUES[:, None], 3)
    for channel in range(3):
        counts = cv2.calcHist([pixels], [channel], None, [256], [0, 256]).ravel().astype(int)
        step = (counts.sum() - counts[counts.nonzero()[0][-1]]) // 255
        if step:
            table[:, channel] = (step // 2 + counts.cumsum() - counts) // step
    return _look_up(pixels, table)


def change_brightness(pixels: Pixels, factor: float) -> Pixels:
    """Mix an image with black.

    Args:
        pixels: The image.
        factor: 0 gives black, 1 the image, more something brighter.
    """
    return _mix_with_grey(pixels, 0, factor)


def change_contrast(pixels: Pixels, factor: float) -> Pixels:
    """Mix an image with the mean of its brightness.

    Args:
        pixels: The image.
        factor: 0 gives a plain grey, 1 the image, more one of stronger contrast.
    """
    mean = int(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return _mix_with_grey(pixels, mean, factor)


def change_colour(pixels: Pixels, factor: float) -> Pixels:
    """Mix an image with its grey version.

    Args:
        pixels: The image.
        factor: 0 gives the grey version, 1 the image, more one of stronger colours.
    """
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    coloured: np.ndarray = cv2.addWeighted(pixels, factor, grey, 1 - factor, _DOWN)
    return coloured


def _mix_with_grey(pixels: Pixels, grey: int, factor: float) -> Pixels:
    table = grey + np.float32(factor) * (_VALUES - grey).astype(np.float32)
    return _look_up(pixels, table.clip(0, 255))


def _look_up(pixels: Pixels, table: np.ndarray) -> Pixels:
    """Replace values; the fraction of new ones is dropped.

    Args:
        pixels: The image.
        table: (256,) new values of all channels, or (256, 3).
    """
    found: np.ndarray = cv2.LUT(pixels, table.clip(0, 255).astype(np.uint8).reshape(256, 1, -1))
    return found


def _invert(pixels: Pixels) -> Pixels:
    return ~pixels


def _keep_bits(pixels: Pixels, bits: int) -> Pixels:
    return pixels & np.uint8(256 - 2 ** max(0, 8 - bits))


def _invert_from(pixels: Pixels, threshold: int) -> Pixels:
    return _look_up(pixels, np.where(threshold > _VALUES, _VALUES, 255 - _VALUES))


def _add_below_half(pixels: Pixels, added: int) -> Pixels:
    return _look_up(pixels, np.where(_VALUES < 128, _VALUES + added, _VALUES))


# timm gives to every operation the image, its level, and how Pillow is to fill and to resample,
# which is bicubic here.


def _without_fill(
    function: Callable[..., Pixels],
    pixels: Pixels,
    *level: int | float,
    fillcolor: Colour,
    resample: object,
) -> Pixels:
    del fillcolor, resample
    return function(pixels, *level)


def _rotate(pixels: Pixels, degrees: float, *, fillcolor: Colour, resample: object) -> Pixels:
    del resample
    height, width, _ = pixels.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return warp(
        pixels, ((cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y)), fillcolor
    )


def _shear_x(pixels: Pixels, factor: float, *, fillcolor: Colour, resample: object) -> Pixels:
    del resample
    return warp(pixels, ((1.0, factor, 0.0), (0.0, 1.0, 0.0)), fillcolor)


def _shear_y(pixels: Pixels, factor: float, *, fillcolor: Colour, resample: object) -> Pixels:
    del resample
    return warp(pixels, ((1.0, 0.0, 0.0), (factor, 1.0, 0.0)), fillcolor)


def _translate(
    axis: int, pixels: Pixels, offset: float, *, fillcolor: Colour, resample: object
) -> Pixels:
    del resample
    return shift(pixels, offset, axis, fillcolor)


def _translate_relative(
    axis: int, pixels: Pixels, share: float, *, fillcolor: Colour, resample: object
) -> Pixels:
    del resample
    return shift(pixels, share * pixels.shape[axis], axis, fillcolor)


_OPERATIONS: dict[str, Callable[..., Pixels]] = {
    "AutoContrast": partial(_without_fill, auto_contrast),
    "Equalize": partial(_without_fill, equalize),
    "Invert": partial(_without_fill, _invert),
    "Posterize": partial(_without_fill, _keep_bits),
    "PosterizeIncreasing": partial(_without_fill, _keep_bits),
    "PosterizeOriginal": partial(_without_fill, _keep_bits),
    "Solarize": partial(_without_fill, _invert_from),
    "SolarizeIncreasing": partial(_without_fill, _invert_from),
    "SolarizeAdd": partial(_without_fill, _add_below_half),
    "Color": partial(_without_fill, change_colour),
    "ColorIncreasing": partial(_without_fill, change_colour),
    "Contrast": partial(_without_fill, change_contrast),
    "ContrastIncreasing": partial(_without_fill, change_contrast),
    "Brightness": partial(_without_fill, change_brightness),
    "BrightnessIncreasing": partial(_without_fill, change_brightness),
    "Sharpness": partial(_without_fill, sharpen),
    "SharpnessIncreasing": partial(_without_fill, sharpen),
    "Rotate": _rotate,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": partial(_translate, 1),
    "TranslateY": partial(_translate, 0),
    "TranslateXRel": partial(_translate_relative, 1),
    "TranslateYRel": partial(_translate_relative, 0),
}
"""timm's names of the operations."""
