"""Nearest pixels are OpenCV's, whatever the sizes."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis.strategies import integers

from ziggurat.data.segmentation import resize_labels
from ziggurat.ops.nearest import nearest_positions

SIDES = integers(1, 1500)


@given(SIDES, SIDES)
def test_positions_are_those_of_opencv(old: int, new: int) -> None:
    row = np.arange(old, dtype=np.float32)[None]
    expected = cv2.resize(row, (new, 1), interpolation=cv2.INTER_NEAREST)[0]
    assert np.array_equal(nearest_positions(old, new), expected)


def test_labels_are_resized_so() -> None:
    labels = np.random.default_rng(0).integers(0, 256, (50, 87), dtype=np.uint8)
    # Of sizes whose ratio rounds to the other side: the inverse of the inverse decides.
    expected = cv2.resize(labels, (501, 624), interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(resize_labels(labels, (624, 501)), expected)
