"""Limits of the size of images at another scale."""

import pytest

from ziggurat.preprocessing import CAFFE_PIXELS, FitAligned, FitInside, scaled_limits


@pytest.mark.parametrize("kind", [FitInside, FitAligned])
def test_limits_are_scaled_to_whole_pixels(kind: type[FitInside] | type[FitAligned]) -> None:
    whole = kind(5, 300, divisor=16, mean=CAFFE_PIXELS.mean, channel_order="bgr")
    half = kind(2, 150, divisor=16, mean=CAFFE_PIXELS.mean, channel_order="bgr")
    assert scaled_limits(whole, 0.5) == half
    assert scaled_limits(whole, 0.01) == kind(
        1, 3, divisor=16, mean=CAFFE_PIXELS.mean, channel_order="bgr"
    )
