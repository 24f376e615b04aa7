"""Colours through 8-bit HSV: tables give what the formulas give, pixel by pixel."""

import colorsys

import numpy as np
import pytest

from ziggurat.data.photometric import hsv_to_rgb, rgb_to_hsv, scale_saturation, shift_hue


def _colours() -> list[tuple[int, int, int]]:
    rng = np.random.default_rng(0)
    edges = [(r, g, b) for r in (0, 1, 255) for g in (0, 1, 255) for b in (0, 1, 255)]
    return edges + [tuple(colour) for colour in rng.integers(0, 256, (400, 3)).tolist()]


def _hsv(red: int, green: int, blue: int) -> tuple[int, int, int]:
    """OpenCV's fixed point: 12 bits behind the point, halves rounded up."""
    value = max(red, green, blue)
    spread = value - min(red, green, blue)
    if spread == 0:
        return 0, 0, value
    saturation = (spread * round(255 * 4096 / value) + 2048) >> 12
    if value == red:
        sector = green - blue
    elif value == green:
        sector = blue - red + 2 * spread
    else:
        sector = red - green + 4 * spread
    hue = (sector * round(30 * 4096 / spread) + 2048) >> 12
    return hue + (180 if hue < 0 else 0), saturation, value


def test_to_hsv() -> None:
    colours = _colours()
    image = np.array([colours], dtype=np.uint8)
    assert rgb_to_hsv(image)[0].tolist() == [list(_hsv(*colour)) for colour in colours]


def test_back_to_rgb() -> None:
    rng = np.random.default_rng(1)
    hsv = np.stack([rng.integers(0, top, 400) for top in (180, 256, 256)], axis=1).astype(np.uint8)
    expected = [
        [255 * part for part in colorsys.hsv_to_rgb(h / 180, s / 255, v / 255)]
        for h, s, v in hsv.tolist()
    ]
    found = hsv_to_rgb(hsv[None])[0].astype(float)
    assert ((np.array(expected) - found) < 1.001).all()  # cut off, not rounded
    assert ((np.array(expected) - found) > -0.001).all()


def test_parts_of_an_image_are_converted_alike() -> None:
    image = np.random.default_rng(2).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    mirrored = image[:, ::-1]
    assert (shift_hue(mirrored, 7) == shift_hue(image, 7)[:, ::-1]).all()


@pytest.mark.parametrize("grey", [0, 77, 255])
def test_grey_has_no_hue(grey: int) -> None:
    image = np.full((2, 3, 3), grey, dtype=np.uint8)
    assert (shift_hue(image, 5) == image).all()
    assert (scale_saturation(image, 1.5) == image).all()
