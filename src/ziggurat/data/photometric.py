"""Change brightness, contrast, saturation and hue at random, in 8 bits as the published runs did.

Every step ends in whole levels, cut off and not rounded, and colours go through 8-bit HSV (hue in
180 steps) as in OpenCV, which is not needed for it. Values are OpenCV's, except that the way back
from HSV differs by one level in places: there OpenCV rounds the last pixels of a row and cuts off
all others.

What depends on few 8-bit numbers comes from tables: saturation of the largest level and the spread,
hue of two differences, the way back of hue and saturation.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float32, Int, UInt8

BRIGHTNESS = 32.0
"""Largest shift, in levels of 255."""
CONTRAST = SATURATION = (0.5, 1.5)
"""Range of the factor."""
HUE = 18
"""The shift is one of -18..17 steps of 2 degrees."""

Pixels = UInt8[np.ndarray, "H W 3"]

_FIXED = 12
"""Bits behind the point in OpenCV's arithmetic of hue and saturation."""
_SPREAD = 511
"""Entries of the table of hues for one spread: a difference is one of -255..255."""
_THIRD = 256 * _SPREAD


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
    return table.clip(0, 255).astype(np.uint8).take(levels)


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
    turned = (np.arange(256) + steps) % 180
    hsv[..., 0] = turned.astype(np.uint8).take(hsv[..., 0])
    return hsv_to_rgb(hsv)


def rgb_to_hsv(image: Pixels) -> Pixels:
    """Convert to hue (0..179), saturation and value (0..255), equal to OpenCV's.

    Args:
        image: RGB image.
    """
    red, green, blue = (np.ascontiguousarray(image[..., channel]) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    # The hue is the difference of the two other channels, counted from the third of the circle
    # that the largest channel stands for; of equal ones the first counts.
    third = np.where(value == red, 0, np.where(value == green, 1, 2)).astype(np.uint8)
    minuend = np.where(third == 0, green, np.where(third == 1, blue, red))
    subtrahend = np.where(third == 0, blue, np.where(third == 1, red, green))
    difference = minuend.astype(np.int16) - subtrahend
    place = third.astype(np.int32) * _THIRD + spread.astype(np.int32) * _SPREAD
    place += difference
    result = np.empty(image.shape, dtype=np.uint8)
    result[..., 0] = _hues().take(place + 255)
    result[..., 1] = _saturations().take(value.astype(np.int32) * 256 + spread)
    result[..., 2] = value
    return result


def hsv_to_rgb(hsv: Pixels) -> Pixels:
    """Convert back, at most one level from OpenCV's.

    Args:
        hsv: Hue, saturation and value of each pixel.
    """
    place = hsv[..., 0].astype(np.int32) * 256 + hsv[..., 1]
    rgb = _shares().take(place, axis=0)
    rgb *= (hsv[..., 2].astype(np.float32) * np.float32(1 / 255))[..., None]
    rgb *= np.float32(255)
    levels: Pixels = rgb.clip(0, 255, out=rgb).astype(np.uint8)
    return levels


@cache
def _saturations() -> UInt8[np.ndarray, " 65536"]:
    """Saturation for each largest level and spread."""
    spread = np.arange(256, dtype=np.int32)
    return _round_off(spread * _inverses(255.0)[:, None]).astype(np.uint8).ravel()


@cache
def _hues() -> UInt8[np.ndarray, " n"]:
    """Hue for each largest channel, spread, and difference of the two other channels."""
    difference = np.arange(-255, _SPREAD - 255, dtype=np.int32)
    spread = np.arange(256, dtype=np.int32)[:, None]
    third = np.arange(3, dtype=np.int32)[:, None, None]
    hue = _round_off((difference + 2 * third * spread) * _inverses(30.0)[:, None])
    return (hue + np.where(hue < 0, 180, 0)).astype(np.uint8).ravel()


@cache
def _shares() -> Float32[np.ndarray, "65536 3"]:
    """Share of the largest level that red, green and blue have, for each hue and saturation."""
    hue = np.arange(256, dtype=np.float32)[:, None] * np.float32(1 / 30)
    saturation = np.arange(256, dtype=np.float32) * np.float32(1 / 255)
    sector = np.floor(hue)
    part = hue - sector
    candidates = np.stack(
        [
            np.ones((256, 256), dtype=np.float32),
            np.broadcast_to(1 - saturation, (256, 256)),
            1 - saturation * part,
            1 - saturation * (1 - part),
        ]
    )
    # Which candidate is red, green and blue in each sixth of the circle of hues.
    choice = np.array([(0, 3, 1), (2, 0, 1), (1, 0, 3), (1, 2, 0), (3, 1, 0), (0, 1, 2)])
    index = choice[sector[:, 0].astype(np.int64) % 6]
    shares = [candidates[index[:, channel], np.arange(256)] for channel in range(3)]
    return np.stack(shares, axis=-1).reshape(-1, 3)


def _inverses(numerator: float) -> Int[np.ndarray, " 256"]:
    """Return numerator / i for i = 0..255 in fixed point, 0 for i = 0."""
    scaled = numerator * 2**_FIXED / np.arange(1, 256)
    return np.concatenate([[0], np.rint(scaled)]).astype(np.int32)


def _round_off(values: Int[np.ndarray, "*_"]) -> Int[np.ndarray, "*_"]:
    return (values + (1 << (_FIXED - 1))) >> _FIXED


def _coin() -> bool:
    return bool(torch.randint(2, ()))


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
