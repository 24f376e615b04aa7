"""Every mask means the same to pycocotools, the oracle of COCO's formats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle

from ziggurat.data.masks import mask_from_runs, outlines, run_lengths, runs_from_text

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
    assert runs_from_text(compressed["counts"].decode()) == counts
    plain = oracle.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    assert (oracle.decode(plain) == mask).all()
    assert (mask_from_runs(counts, (height, width)) == mask).all()
