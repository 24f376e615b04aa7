"""Every mask means the same to pycocotools, the oracle of COCO's formats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle

from ziggurat.data.masks import outlines, run_lengths
from ziggurat.data.segments import SegmentTable, read_segment
from ziggurat.ops.run_lengths import read_counts

# pycocotools does not know numpy's newer arguments of __array__ yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    seed, share = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.1, 0.4, 0.7, 1.0]))
    found: np.ndarray = np.random.default_rng(seed).random((height, width)) < share
    return found


@given(masks())
@settings(max_examples=100)
def test_outlines_rasterise_to_the_mask(mask: np.ndarray) -> None:
    height, width = mask.shape
    polygons, has_hole = outlines(mask)
    filled = [
        oracle.decode(oracle.frPyObjects([[float(value) for value in polygon]], height, width))
        for polygon in polygons
    ]
    layers = np.concatenate([np.zeros((height, width, 1), dtype=np.uint8), *filled], axis=2)
    # Holes flip pixels back; without one, the union that COCO takes is the mask.
    assert (layers.sum(axis=2) % 2 == mask).all()
    assert (layers.any(axis=2) == mask).all() == (not has_hole)


@given(masks())
@settings(max_examples=100)
def test_run_lengths_are_those_of_coco(mask: np.ndarray) -> None:
    height, width = mask.shape
    counts = run_lengths(mask)
    compressed = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert read_counts(compressed["counts"].decode()).tolist() == counts
    plain = oracle.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    assert (oracle.decode(plain) == mask).all()
    text = {"size": [height, width], "counts": compressed["counts"].decode()}
    for segmentation in (text, text | {"counts": counts}):
        assert (rasterise(segmentation, (height, width)) == mask).all()


def rasterise(segmentation: object, size: tuple[int, int]) -> np.ndarray:
    table = SegmentTable.of([read_segment(segmentation, size)])
    found: np.ndarray = table.masks(0, 1, size).full()[0].numpy()
    return found


@st.composite
def polygons(draw: st.DrawFn) -> tuple[list[list[float]], tuple[int, int]]:
    """Outlines that leave the image, cross themselves, repeat corners, lie between pixels."""
    size = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        corners = rng.uniform(-8, 45, (rng.integers(3, 9), 2))
        corners = np.round(corners * draw(st.sampled_from([1, 2, 10, 1000]))) / 10
        corners = corners.clip(-60, 60)
        if rng.random() < 0.3:
            corners = np.concatenate([corners, corners[-1:], corners[:1]])
        found.append(corners.ravel().tolist())
    return found, size


@given(polygons())
@settings(max_examples=200)
def test_polygons_are_filled_by_the_rule_of_coco(
    case: tuple[list[list[float]], tuple[int, int]],
) -> None:
    found, size = case
    runs = oracle.merge(oracle.frPyObjects(found, *size))
    # Further away than twenty sides of the image is refused.
    if max(abs(value) for outline in found for value in outline) <= 20 * max(size):
        assert (rasterise(found, size) == oracle.decode(runs)).all()
