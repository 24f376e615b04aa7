"""Zeros behind the end, and off again."""

import pytest
import torch

from ziggurat.ops.padding import aligned_size, crop, divide_up, pad_to_multiple


@pytest.mark.parametrize(("size", "parts"), [(1, 1), (3, 1), (4, 1), (5, 2), (8, 2)])
def test_division_rounds_up(size: int, parts: int) -> None:
    assert divide_up(size, 4) == parts


def test_sizes_are_rounded_up() -> None:
    assert aligned_size((32, 33), 32) == (32, 64)


def test_zeros_are_appended_to_the_named_dimensions_only() -> None:
    x = torch.ones(2, 3, 5, 6)
    y = pad_to_multiple(x, (2, 3), 4)
    assert y.shape == (2, 3, 8, 8)
    assert y.sum() == x.sum()
    assert torch.equal(y[:, :, :5, :6], x)
    assert pad_to_multiple(x, (1,), 2).shape == (2, 4, 5, 6)


def test_what_fits_already_is_not_copied() -> None:
    x = torch.ones(2, 4, 8)
    assert pad_to_multiple(x, (1, 2), 4) is x
    assert crop(x, 1, 4) is x


def test_cropping_takes_the_padding_off() -> None:
    x = torch.randn(2, 3, 5)
    assert torch.equal(crop(pad_to_multiple(x, (1,), 2), 1, 3), x)
