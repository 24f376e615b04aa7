"""Resizing of any 8-bit image: range, symmetry, and closeness to another implementation."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ziggurat.data.resize import fit_size, resize_exact, resize_fast

images = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(
    lambda size: arrays(np.uint8, (*size, 3))
)
sizes = st.tuples(st.integers(1, 50), st.integers(1, 50))


@given(images, sizes)
def test_exact_and_fast_agree_to_a_level(image: np.ndarray, size: tuple[int, int]) -> None:
    exact = resize_exact(image, size).astype(int)
    assert exact.shape == (*size, 3)
    assert image.min() <= exact.min() and exact.max() <= image.max()
    assert np.abs(exact - resize_fast(image, size)).max() <= 1


@given(
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.integers(16, 1000),
    st.integers(1, 3),
)
def test_fitting_reaches_a_limit_and_exceeds_none(
    original: tuple[int, int], short_side: int, factor: int
) -> None:
    long_side = short_side * factor
    size = fit_size(original, short_side, long_side)
    assert 1 <= min(size) <= short_side and max(size) <= long_side
    assert min(size) == short_side or max(size) == long_side
    assert fit_size(original[::-1], short_side, long_side) == size[::-1]
