"""Resizing: exact cases that can be computed by hand, and the fast way beside the exact one."""

import numpy as np
import pytest

from ziggurat.data.resize import fit_size, resize_exact, resize_fast


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_same_size_is_the_same_image() -> None:
    image = noise(7, 9, 3)
    assert (resize_exact(image, (7, 9)) == image).all()
    assert (resize_fast(image, (7, 9)) == image).all()


def test_half_size_is_the_mean_of_two_by_two() -> None:
    image = noise(10, 14, 3)
    mean = image.reshape(5, 2, 7, 2, 3).mean(axis=(1, 3))
    assert (resize_exact(image, (5, 7)) == np.floor(mean + 0.5)).all()


def test_half_height_alone_interpolates() -> None:
    image = noise(10, 14, 3)
    resized = resize_exact(image, (5, 14))
    assert np.abs(resized - image.reshape(5, 2, 14, 3).mean(axis=1)).max() <= 1


def test_constant_stays_constant() -> None:
    for level in (0, 1, 127, 254, 255):
        image = np.full((11, 17, 3), level, dtype=np.uint8)
        assert (resize_exact(image, (40, 5)) == level).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (40, 1), (23, 31), (64, 33), (100, 120)])
@pytest.mark.parametrize("old", [(1, 1), (1, 20), (20, 1), (37, 53), (32, 33)])
def test_fast_differs_by_one_level_at_most(old: tuple[int, int], size: tuple[int, int]) -> None:
    image = noise(*old, 3)
    exact, fast = resize_exact(image, size).astype(int), resize_fast(image, size).astype(int)
    assert exact.shape == (*size, 3)
    assert np.abs(exact - fast).max() <= 1


def test_a_flipped_or_sliced_image_resizes_like_its_copy() -> None:
    image = noise(20, 30, 3)
    view = image[:, ::-1][2:, 3:]
    assert (resize_exact(view, (31, 17)) == resize_exact(view.copy(), (31, 17))).all()


def test_fit_size_keeps_both_limits_and_at_least_a_pixel() -> None:
    assert fit_size((480, 640), 800, 1333) == (800, 1067)
    assert fit_size((100, 1000), 800, 1333) == (133, 1333)
    assert fit_size((1, 10000), 800, 1333) == (1, 1333)
