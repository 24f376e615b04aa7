"""Box arithmetic on values that a hand can compute."""

import pytest
import torch

from ziggurat.ops.anchors import AnchorGrid
from ziggurat.ops.boxes import clip_boxes, decode_deltas, encode_deltas, scale_boxes


def test_deltas_are_shifts_in_anchor_sizes_and_logarithms() -> None:
    anchors = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    boxes = torch.tensor([[5.0, 10.0, 25.0, 30.0]])  # centre 10, 10 further; twice as wide
    deltas = encode_deltas(anchors, boxes)
    torch.testing.assert_close(deltas, torch.tensor([[1.0, 0.5, 0.6931472, 0.0]]))


def test_growth_and_shrinking_are_limited() -> None:
    anchors = torch.tensor([[50.0, 50.0, 60.0, 60.0]]).repeat(2, 1)
    deltas = torch.tensor([[0.0, 0.0, 100.0, 100.0], [0.0, 0.0, -100.0, -100.0]])
    large, small = decode_deltas(anchors, deltas, (10_000, 10_000))
    # 62.5 times 10 is 625, half of it on either side of the centre 55; cut at the left and the top.
    torch.testing.assert_close(large, torch.tensor([0.0, 0.0, 367.5, 367.5]))
    # A 62.5th of 10 is 0.16.
    torch.testing.assert_close(small, torch.tensor([54.92, 54.92, 55.08, 55.08]))


def test_boxes_are_cut_at_height_and_width() -> None:
    boxes = torch.tensor([[-5.0, -5.0, 500.0, 500.0]])
    assert clip_boxes(boxes, (20, 30)).tolist() == [[0.0, 0.0, 30.0, 20.0]]


def test_scaling_divides_x_by_the_first_factor() -> None:
    boxes = torch.tensor([[2.0, 3.0, 4.0, 6.0]])
    assert scale_boxes(boxes, (2.0, 3.0)).tolist() == [[1.0, 1.0, 2.0, 2.0]]


def test_only_cells_that_begin_on_the_image_are_valid() -> None:
    grid = AnchorGrid(scales=(1.0,), ratios=(1.0, 2.0))
    valid = grid.valid((2, 3), 8, (8, 9))
    assert valid.tolist() == [True, True, True, True, False, False] + [False] * 6


def test_rounded_anchors_lie_on_the_middle_of_their_cell() -> None:
    cell = AnchorGrid(scales=(8.0,), ratios=(0.5, 1.0), is_rounded=True).cell(4)
    # 4 / sqrt(0.5) is 5.7, so 6 wide and 3 high; eight times that, around (2, 2).
    assert cell.tolist() == [[-22.0, -10.0, 26.0, 14.0], [-14.0, -14.0, 18.0, 18.0]]


def test_plain_deltas_copy_nothing_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "new_tensor", None)
    anchors = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    boxes = torch.tensor([[5.0, 10.0, 25.0, 30.0]])
    deltas = encode_deltas(anchors, boxes)
    torch.testing.assert_close(decode_deltas(anchors, deltas, None), boxes)
