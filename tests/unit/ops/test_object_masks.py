"""Masks by windows are moved as masks of the whole image would be."""

import numpy as np
import pytest
import torch

from ziggurat.ops.object_masks import crop_masks, flip_masks, from_crops, resize_masks
from ziggurat.types import ObjectMasks

SIZE = (23, 31)


@pytest.fixture
def full() -> torch.Tensor:
    masks = torch.zeros(4, *SIZE, dtype=torch.bool)
    masks[0, 3:9, 5:20] = torch.rand(6, 15) < 0.5
    masks[1] = torch.rand(SIZE) < 0.3
    masks[2, 22, 30] = True
    return masks  # the last one stays empty


def test_flip(full: torch.Tensor) -> None:
    found = flip_masks(ObjectMasks.from_full(full))
    assert torch.equal(found.full(), full.flip(2))


@pytest.mark.parametrize("size", [(46, 62), (10, 13), (1, 1), (40, 7), SIZE])
def test_resize_takes_the_pixel_at_the_upper_left(
    full: torch.Tensor, size: tuple[int, int]
) -> None:
    rows, columns = (
        (torch.arange(new) * old / new).long() for old, new in zip(SIZE, size, strict=True)
    )
    found = resize_masks(ObjectMasks.from_full(full), size)
    assert found.size == size
    assert torch.equal(found.full(), full[:, rows][:, :, columns])


@pytest.mark.parametrize(("left", "top", "size"), [(0, 0, SIZE), (6, 4, (5, 9)), (20, 20, (3, 2))])
def test_crop(full: torch.Tensor, left: int, top: int, size: tuple[int, int]) -> None:
    found = crop_masks(ObjectMasks.from_full(full), left, top, size)
    assert torch.equal(found.full(), full[:, top : top + size[0], left : left + size[1]])
    windows = found.windows
    assert (windows >= 0).all()
    assert (windows[:, :2] + windows[:, 2:] <= torch.tensor([size[1], size[0]])).all()


def test_no_masks_at_all() -> None:
    none = from_crops([], np.zeros((0, 4), dtype=np.int64), SIZE)
    for found in (
        none,
        flip_masks(none),
        resize_masks(none, (5, 6)),
        crop_masks(none, 1, 1, (2, 2)),
    ):
        assert len(found) == 0
        assert found.full().shape[0] == 0
