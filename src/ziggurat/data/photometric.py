"""Change brightness, contrast, saturation and hue at random, in 8 bits as the published runs did.

Every step ends in whole levels, cut off and not rounded, and colours go through 8-bit HSV (hue in
180 steps) as in OpenCV, which is not needed for it. Values are OpenCV's, except that the way back
from HSV differs by one level in places: there OpenCV rounds the last pixels of a row and cuts off
all others.
"""

import numpy as np
import torch
from jaxtyping import UInt8

BRIGHTNESS = 32.0
"""Largest shift, in levels of 255."""
CONTRAST = SATURATION = (0.5, 1.5)
"""Range of the factor."""
HUE = 18
"""The shift is one of -18..17 steps of 2 degrees."""

Pixels = UInt8[np.ndarray, "H W 3"]

_FIXED = 12
"""Bits behind the point in OpenCV's arithmetic of hue and saturation."""


def distort(image: Pixels) -> Pixels:
    """Apply each change with probability 1/2; contrast comes second or, as often, last.

    Draws from torch's global generator.

    Args:
        image: RGB image.
    """
    if _coin():
        image = scale_levels(image, 1.0, _uniform(-BRIGHTNESS, BRIGHTNESS))
    contrast_is_last = _coin()
    if not contrast_is_last and _coin():
        image = scale_levels(image, _uniform(*CONTRAST), 0.0)
    if _coin():
        image = scale_saturation(image, _uniform(*SATURATION))
    if _coin():
        image = shift_hue(image, int(torch.randint(-HUE, HUE, ())))
    if contrast_is_last and _coin():
        image = scale_levels(image, _uniform(*CONTRAST), 0.0)
    return image


def scale_levels(
    levels: UInt8[np.ndarray, "*shape"], factor: float, shift: float
) -> UInt8[np.ndarray, "*shape"]:
    """Return levels * factor + shift, cut to 0..255 and to whole levels.

    Args:
        levels: 8-bit levels.
        factor: Contrast or saturation.
        shift: Brightness, in levels.
    """
    table = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(shift)
    return table.clip(0, 255).astype(np.uint8)[levels]


def scale_saturation(image: Pixels, factor: float) -> Pixels:
    """Multiply the saturation.

    Args:
        image: RGB image.
        factor: 0 makes it grey, 1 leaves it as HSV's whole numbers give it back.
    """
    hsv = rgb_to_hsv(image)
    hsv[..., 1] = scale_levels(hsv[..., 1], factor, 0.0)
    return hsv_to_rgb(hsv)


def shift_hue(image: Pixels, steps: int) -> Pixels:
    """Turn the hue.

    Args:
        image: RGB image.
        steps: Steps of 2 degrees.
    """
    hsv = rgb_to_hsv(image)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + steps) % 180
    return hsv_to_rgb(hsv)


def rgb_to_hsv(image: Pixels) -> Pixels:
    """Convert to hue (0..179), saturation and value (0..255), equal to OpenCV's.

    Args:
        image: RGB image.
    """
    red, green, blue = (image[..., channel].astype(np.int32) for channel in range(3))
    value = image.max(axis=2).astype(np.int32)
    spread = value - image.min(axis=2)
    saturation = _round_off(spread * _inverses(255.0)[value])
    by_green = np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    sector = np.where(value == red, green - blue, by_green)
    hue = _round_off(sector * _inverses(30.0)[spread])
    hue += np.where(hue < 0, 180, 0)
    return np.stack([hue, saturation, value], axis=2).astype(np.uint8)


def hsv_to_rgb(hsv: Pixels) -> Pixels:
    """Convert back, at most one level from OpenCV's.

    Args:
        hsv: Hue, saturation and value of each pixel.
    """
    hue = hsv[..., 0].astype(np.float32) * np.float32(1 / 30)
    saturation, value = (hsv[..., i].astype(np.float32) * np.float32(1 / 255) for i in (1, 2))
    sector = np.floor(hue)
    part = hue - sector
    candidates = np.stack(
        [
            value,
            value * (1 - saturation),
            value * (1 - saturation * part),
            value * (1 - saturation * (1 - part)),
        ]
    )
    # Which candidate is red, green and blue in each sixth of the circle of hues.
    choice = np.array([(0, 3, 1), (2, 0, 1), (1, 0, 3), (1, 2, 0), (3, 1, 0), (0, 1, 2)])
    index = choice[sector.astype(np.int64) % 6]
    rgb = np.take_along_axis(candidates[..., None], index[None], axis=0)[0]
    levels: Pixels = (rgb * np.float32(255)).clip(0, 255).astype(np.uint8)
    return levels


def _inverses(numerator: float) -> np.ndarray:
    """Return numerator / i for i = 0..255 in fixed point, 0 for i = 0."""
    scaled = numerator * 2**_FIXED / np.arange(1, 256)
    return np.concatenate([[0], np.rint(scaled)]).astype(np.int32)


def _round_off(values: np.ndarray) -> np.ndarray:
    return (values + (1 << (_FIXED - 1))) >> _FIXED


def _coin() -> bool:
    return bool(torch.randint(2, ()))


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
