"""Heads on values that a hand can compute."""

import math

import pytest
import torch

from ziggurat.heads.linear import LinearHead
from ziggurat.heads.retinanet import RetinaNetHead, RetinaNetOutput
from ziggurat.types import Detections

NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


def test_linear_head_averages_the_coarsest_map() -> None:
    head = LinearHead(2, 3)
    torch.nn.init.constant_(head.fc.weight, 1.0)
    coarse = torch.tensor([[[[1.0, 3.0]], [[0.0, 10.0]]]])
    assert head([torch.zeros(1, 9, 4, 4), coarse]).tolist() == [[7.0, 7.0, 7.0]]


def test_smoothing_belongs_to_labels_not_to_distributions() -> None:
    head = LinearHead(2, 2, label_smoothing=0.2)
    logits = torch.tensor([[math.log(3.0), 0.0]])  # probabilities 3/4 and 1/4
    smooth = head.loss(logits, torch.tensor([0]))["classification"]
    assert smooth.item() == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25))
    mixed = head.loss(logits, torch.tensor([[0.5, 0.5]]))["classification"]
    assert mixed.item() == pytest.approx(-0.5 * math.log(0.75) - 0.5 * math.log(0.25))


def test_scores_sum_to_one_and_come_sorted() -> None:
    scores = LinearHead(2, 3).decode(torch.tensor([[0.0, 2.0, 1.0]]))[0]
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


def test_a_perfect_prediction_costs_nothing_and_is_found() -> None:
    head = RetinaNetHead(8, (8,), 2)
    raw = level(-20.0)
    # The square anchor of scale 4 (index 3 of 9) of cell (2, 2) is the box (0, 0, 32, 32).
    raw.cls_logits[0][0, 3 * 2 + 1, 2, 2] = 20.0
    truth = Detections(torch.tensor([[0.0, 0.0, 32.0, 32.0]]), torch.ones(1), torch.tensor([1]))
    losses = head.loss(raw, [truth], [(32, 32)])
    assert losses["box"].item() < 3  # only the neighbours that overlap by half are off
    found = head.decode(raw, [(32, 32)])[0]
    assert found.boxes.tolist() == [[0.0, 0.0, 32.0, 32.0]]
    assert found.labels.tolist() == [1]


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
