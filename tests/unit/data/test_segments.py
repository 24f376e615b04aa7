"""Masks out of annotation entries: windows, several parts, many objects, what is refused."""

import time
from typing import Any

import numpy as np
import pytest
import torch

from ziggurat.data.polygons import fill_polygons, to_fifths
from ziggurat.data.segments import Segment, SegmentTable, read_segment
from ziggurat.types import ObjectMasks

SQUARE = [2.0, 3.0, 8.0, 3.0, 8.0, 7.0, 2.0, 7.0]


def masks(*segmentations: object, size: tuple[int, int] = (10, 20)) -> ObjectMasks:
    table = SegmentTable.of([read_segment(entry, size) for entry in segmentations])
    return table.masks(0, len(segmentations), size)


def test_a_square_fills_its_pixels_and_no_others() -> None:
    found = masks([SQUARE])
    assert found.windows.tolist() == [[2, 3, 6, 4]]
    assert found.pixels.all()


def test_a_pixel_is_filled_where_its_middle_is_inside() -> None:
    # The left edge at x = 2.4 is left of the middle of pixel 2, at 2.6 right of it.
    assert masks([[2.4, 3, 8, 3, 8, 7, 2.4, 7]]).windows[0, 0] == 2
    assert masks([[2.6, 3, 8, 3, 8, 7, 2.6, 7]]).windows[0, 0] == 3


def test_parts_of_an_object_are_one_mask() -> None:
    left, right = [0, 0, 3, 0, 3, 3, 0, 3], [10, 5, 12, 5, 12, 9, 10, 9]
    found = masks([left, right])
    assert found.windows.tolist() == [[0, 0, 12, 9]]
    assert found.pixels.sum() == 9 + 8


def test_what_lies_outside_the_image_is_cut() -> None:
    assert masks([[-5, -5, 30, -5, 30, 30, -5, 30]]).full().all()
    assert masks([[30, 2, 35, 2, 35, 8, 30, 8]]).windows.tolist() == [[0, 0, 0, 0]]


def test_run_lengths_beside_polygons_and_nothing() -> None:
    runs = {"size": [10, 20], "counts": [23, 4, 6, 4, 163]}
    table = SegmentTable.of(
        [read_segment(runs, (10, 20)), Segment((), False), read_segment([SQUARE], (10, 20))]
    )
    found = table.masks(0, 3, (10, 20))
    assert found.windows.tolist() == [[2, 3, 2, 4], [0, 0, 0, 0], [2, 3, 6, 4]]
    later = table.masks(2, 3, (10, 20))
    assert torch.equal(later.full()[0], found.full()[2])
    assert len(table.masks(1, 1, (10, 20))) == 0


@pytest.mark.parametrize("counts", [[200], [0, 0, 200], [0, 200], [199, 1], [0, 1, 199]])
def test_run_lengths_at_the_ends(counts: list[int]) -> None:
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(20, 10).T
    found = masks({"size": [10, 20], "counts": counts})
    assert (found.full()[0].numpy() == values).all()


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "no segmentation"),
        ([], "no segmentation"),
        ("x", "is a str, neither polygons nor run lengths"),
        ([[1, 2, 3, 4]], "a polygon has 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "a polygon has 7 numbers"),
        ([[1, 2, 3, 4, 5, "x"]], "not a list of finite numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "not a list of finite numbers"),
        ([[1, 2, 3, 4, 5, 10**400]], "not a list of finite numbers"),
        ([["a"]], "not a list of finite numbers"),
        ([7], "not a list of finite numbers"),
        ([[[1, 2], [3]]], "not a list of finite numbers"),
        ([[True] * 6], "not a list of finite numbers"),
        ([[[1, 2], [3, 4], [5, 6]]], "not a list of finite numbers"),
        ([[1, 2, 3, 4, 5, 1e7]], "a polygon leaves the image by 9.9"),
        ({"size": [20, 10], "counts": [200]}, r"run lengths have the size \[20, 10\]"),
        ({"size": [10, 20], "counts": [1, 2]}, "add up to 3 pixels"),
        ({"size": [10, 20], "counts": [1, -2, 201]}, "add up to 200 pixels"),
        ({"size": [10, 20], "counts": "X"}, "middle of a number"),
        ({"size": [10, 20], "counts": 5}, "neither whole numbers nor text"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_segment(segmentation, (10, 20))


def test_a_thousand_objects_are_filled_together() -> None:
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    centres = rng.uniform(20, 700, (1000, 1, 2))
    corners = centres + circle * rng.uniform(4, 15, (1000, 1, 1))
    start = time.perf_counter()
    fifths = to_fifths(corners.ravel()).reshape(-1, 2)
    crops, windows = fill_polygons(fifths, np.arange(0, 24000, 24), (800, 800))
    # One after the other, on whole images, this takes seconds.
    assert time.perf_counter() - start < 2
    areas = np.array([crop.sum() for crop in crops])
    radii = np.ptp(corners[..., 0], axis=1) / 2
    assert np.abs(areas / (np.pi * radii**2) - 1).max() < 0.15
    assert (windows[:, 2:] <= 31).all()
