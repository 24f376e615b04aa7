"""Regions of a pyramid, each from its level, in the order in which they came."""

import torch

from ziggurat.layers.roi_pooling import RoIPooling

STRIDES = (4, 8, 16)
LEVELS = [torch.full((2, 3, 256 // stride, 256 // stride), float(stride)) for stride in STRIDES]
BOXES = torch.tensor(
    [
        [0.0, 0.0, 250.0, 250.0],
        [8.0, 8.0, 40.0, 40.0],
        [20.0, 0.0, 140.0, 140.0],
    ]
)


def test_a_region_is_read_from_its_level_and_keeps_its_place() -> None:
    cut = RoIPooling(STRIDES, 7)(LEVELS, [BOXES, BOXES[1:2]])
    assert cut.amax(dim=(1, 2, 3)).round().tolist() == [16.0, 4.0, 8.0, 4.0]


def test_channels_come_out_last_in_memory() -> None:
    levels = [level.contiguous(memory_format=torch.channels_last) for level in LEVELS]
    cut = RoIPooling(STRIDES, 7)(levels, [BOXES, BOXES])
    assert cut.is_contiguous(memory_format=torch.channels_last)


def test_every_level_has_a_gradient_even_without_regions() -> None:
    levels = [level.clone().requires_grad_() for level in LEVELS]
    RoIPooling(STRIDES, 7)(levels, [BOXES[1:2], BOXES[:0]]).sum().backward()
    sums = [float(level.grad.sum()) for level in levels if level.grad is not None]
    assert len(sums) == 3
    assert sums[0] > 0
    assert sums[1:] == [0.0, 0.0]


def test_a_region_that_is_no_number_stays_visible_and_alone() -> None:
    boxes = BOXES.clone()
    boxes[1, 2] = torch.nan
    cut = RoIPooling(STRIDES, 7)(LEVELS, [boxes, BOXES])
    assert not cut[1].isfinite().all()
    assert cut[[0, 2, 3, 4, 5]].isfinite().all()
    # Turned over in one direction only, its area is no square of anything.
    boxes[1] = torch.tensor([40.0, 8.0, 8.0, 40.0])
    assert len(RoIPooling(STRIDES, 7)(LEVELS, [boxes, BOXES])) == 6
