"""Heads on values that a hand can compute."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from ziggurat.heads.linear import AveragePool, LinearHead
from ziggurat.heads.retinanet import ANCHORS, RetinaNetHead, RetinaNetOutput
from ziggurat.ops.boxes import encode_deltas
from ziggurat.types import Detections

NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


def test_linear_head_averages_the_map() -> None:
    head = LinearHead(AveragePool(), 2, 3)
    torch.nn.init.constant_(head.fc.weight, 1.0)
    coarse = torch.tensor([[[[1.0, 3.0]], [[0.0, 10.0]]]])
    assert head(coarse).tolist() == [[7.0, 7.0, 7.0]]


def test_smoothing_belongs_to_labels_not_to_distributions() -> None:
    head = LinearHead(AveragePool(), 2, 2, label_smoothing=0.2)
    logits = torch.tensor([[math.log(3.0), 0.0]])  # probabilities 3/4 and 1/4
    smooth = head.loss(logits, torch.tensor([0]))["classification"]
    assert smooth.item() == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25))
    mixed = head.loss(logits, torch.tensor([[0.5, 0.5]]))["classification"]
    assert mixed.item() == pytest.approx(-0.5 * math.log(0.75) - 0.5 * math.log(0.25))


def test_scores_sum_to_one_and_come_sorted() -> None:
    scores = LinearHead(AveragePool(), 2, 3).decode(torch.tensor([[0.0, 2.0, 1.0]]))[0]
    assert scores.scores.sum().item() == pytest.approx(1.0)
    assert [label for label, _ in scores.top(5)] == [1, 2, 0]


def test_retinanet_starts_from_rare_foreground() -> None:
    head = RetinaNetHead(8, (8,), 3)
    scores = head([torch.randn(1, 8, 4, 4)]).cls_logits[0].sigmoid()
    torch.testing.assert_close(scores, torch.full_like(scores, 0.01), atol=2e-3, rtol=0)


def level(value: float) -> RetinaNetOutput:
    return RetinaNetOutput([torch.full((1, 9 * 2, 4, 4), value)], [torch.zeros(1, 36, 4, 4)])


def test_nothing_above_the_threshold_is_no_detection() -> None:
    found = RetinaNetHead(8, (8,), 2).decode(level(-9.0), [(32, 32)])[0]
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


TRUTH = Detections(torch.tensor([[0.0, 0.0, 32.0, 32.0]]), torch.ones(1), torch.tensor([1]))


def overlaps() -> tuple[Tensor, Tensor]:
    """Anchors of a 4 x 4 map of stride 8, and their IoU with the true box."""
    anchors = ANCHORS.level((4, 4), 8)
    return anchors, box_iou(anchors, TRUTH.boxes)[:, 0]


def as_map(values: Tensor) -> Tensor:
    """Lay one row an anchor out as the head does."""
    return values.view(4, 4, -1).permute(2, 0, 1)[None].contiguous()


def test_a_perfect_prediction_costs_nothing_and_is_found_once() -> None:
    head = RetinaNetHead(8, (8,), 2)
    anchors, iou = overlaps()
    foreground = iou >= 0.5
    assert foreground.sum() > 1
    logits = torch.full((len(anchors), 2), -20.0)
    logits[foreground, 1] = 20.0
    deltas = encode_deltas(anchors, TRUTH.boxes.expand(len(anchors), 4))
    raw = RetinaNetOutput([as_map(logits)], [as_map(deltas)])
    losses = head.loss(raw, [TRUTH], [(32, 32)])
    assert losses["classification"].item() == pytest.approx(0.0, abs=1e-6)
    assert losses["box"].item() == pytest.approx(0.0, abs=1e-6)
    found = head.decode(raw, [(32, 32)])[0]
    torch.testing.assert_close(found.boxes, TRUTH.boxes, atol=1e-4, rtol=0)
    assert found.labels.tolist() == [1]
    assert found.scores.item() == pytest.approx(1.0)


def test_losses_of_a_head_that_knows_nothing() -> None:
    anchors, iou = overlaps()
    foreground, background = iou >= 0.5, iou < 0.4
    positives, negatives = int(foreground.sum()), int(background.sum())
    assert positives + negatives < len(anchors)  # some are in between and count for nothing
    raw = RetinaNetOutput([torch.zeros(1, 18, 4, 4)], [torch.zeros(1, 36, 4, 4)])
    losses = RetinaNetHead(8, (8,), 2).loss(raw, [TRUTH], [(32, 32)])
    # alpha_t * (1 - 1/2)^2 * log 2 for each class of each anchor that counts.
    weight = 0.25 * positives + 0.75 * (positives + 2 * negatives)
    assert losses["classification"].item() == pytest.approx(weight * math.log(2) / 4 / positives)
    goal = encode_deltas(anchors[foreground], TRUTH.boxes.expand(positives, 4))
    assert losses["box"].item() == pytest.approx(goal.abs().sum().item() / positives)
    # The square anchor of scale 4 (index 3 of 9) of cell (2, 2) is the true box itself.
    assert anchors[(2 * 4 + 2) * 9 + 3].tolist() == [0.0, 0.0, 32.0, 32.0]


def test_original_sizes_scale_the_boxes() -> None:
    head = RetinaNetHead(8, (8,), 2)
    raw = level(-20.0)
    raw.cls_logits[0][0, 3 * 2 + 1, 2, 2] = 20.0
    found = head.decode(raw, [(32, 32)], [(64, 96)])[0]
    assert found.boxes.tolist() == [[0.0, 0.0, 96.0, 64.0]]


def test_padding_of_a_neighbour_is_ignored() -> None:
    head = RetinaNetHead(8, (8,), 2)
    raw = RetinaNetOutput([torch.zeros(1, 18, 4, 8)], [torch.zeros(1, 36, 4, 8)])
    whole = head.loss(raw, [NOTHING], [(32, 64)])["classification"]
    half = head.loss(raw, [NOTHING], [(32, 32)])["classification"]
    assert whole.item() == pytest.approx(2 * half.item())


def test_one_target_an_image_is_needed() -> None:
    with pytest.raises(ValueError, match="one entry an image"):
        RetinaNetHead(8, (8,), 2).loss(level(0.0), [NOTHING, NOTHING], [(32, 32)])
