"""Objects out of a map of their numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from ziggurat.data.object_maps import find_regions


@given(
    arrays(
        np.uint16,
        array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.sampled_from([0, 1, 2, 26001]),
    )
)
def test_regions_equal_those_of_pycocotools(numbers: np.ndarray) -> None:
    found = find_regions(numbers, without=(0,))
    assert list(found) == sorted(set(np.unique(numbers).tolist()) - {0})
    for number, region in found.items():
        mask = coco_mask.encode(np.asfortranarray(numbers == number, dtype=np.uint8))
        x, y, width, height = coco_mask.toBbox(mask).tolist()
        assert region.segmentation == {"size": mask["size"], "counts": mask["counts"].decode()}
        assert region.box == (x, y, x + width, y + height)
        assert region.area == coco_mask.area(mask)


@pytest.mark.parametrize("number", [0, 7])
def test_a_map_of_one_number(number: int) -> None:
    found = find_regions(np.full((3, 4), number), without=(0,))
    assert [region.box for region in found.values()] == ([] if number == 0 else [(0, 0, 4, 3)])
