"""Boxes that say the same lose score or vote, class by class."""

from dataclasses import replace
from math import exp

import pytest
import torch
from torchvision.ops import box_iou

from ziggurat.errors import ZigguratError
from ziggurat.ops.box_voting import Voting, vote
from ziggurat.ops.nms import HARD, BoxCandidates, Suppression, suppress
from ziggurat.types import Detections

# Ten wide each; the second shares 8 of 12 with the first, the third 2 of 18, the fourth nothing.
BOXES = torch.tensor([[0.0, 0, 10, 10], [2.0, 0, 12, 10], [8.0, 0, 18, 10], [90.0, 0, 100, 10]])
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6])
ONE_CLASS = torch.zeros(4, dtype=torch.int64)


def found(suppression: Suppression, labels: torch.Tensor = ONE_CLASS, count: int = 9) -> Detections:
    return suppress(BOXES, SCORES, labels, iou=0.5, max_detections=count, suppression=suppression)


def test_a_line_takes_the_overlap_above_the_threshold() -> None:
    result = found(Suppression("soft-linear"))
    assert result.boxes[:, 0].tolist() == [0, 8, 90, 2]
    # 2 overlaps 0 by 2/3, and 8 by 4/16 only.
    torch.testing.assert_close(result.scores, torch.tensor([0.9, 0.7, 0.6, 0.8 / 3]))


def test_a_gaussian_takes_something_of_every_overlap() -> None:
    result = found(Suppression("soft-gaussian", sigma=0.3))
    third = 0.7 * exp(-((1 / 9) ** 2) / 0.3)
    second = 0.8 * exp(-((2 / 3) ** 2) / 0.3) * exp(-((4 / 16) ** 2) / 0.3)
    assert result.boxes[:, 0].tolist() == [0, 8, 90, 2]
    torch.testing.assert_close(result.scores, torch.tensor([0.9, third, 0.6, second]))


@pytest.mark.parametrize("method", ["soft-linear", "soft-gaussian"])
def test_other_classes_take_nothing(method: str) -> None:
    result = found(Suppression(method), torch.tensor([3, 1, 0, 1]))
    torch.testing.assert_close(result.scores, SCORES)
    assert result.labels.tolist() == [3, 1, 0, 1]


def test_what_falls_below_the_floor_is_dropped() -> None:
    assert len(found(Suppression("soft-linear", floor=0.27))) == 3
    assert len(found(Suppression("soft-linear", floor=0.26))) == 4


def test_a_suppression_may_keep_another_number_of_detections() -> None:
    boxes = torch.arange(30.0)[:, None] * 20 + torch.tensor([0.0, 0, 10, 10])
    candidates = BoxCandidates(boxes, torch.rand(30), torch.zeros(30).long(), 0.5, 20)
    assert len(candidates.suppress()) == 20
    for rule in (Suppression(), Suppression("soft-linear"), Suppression(voting=Voting(0.8, "avg"))):
        for count in (3, 25):
            kept = candidates.suppress(replace(rule, max_detections=count))
            assert len(kept) == count
            best = candidates.scores.sort(descending=True).values[:count]
            torch.testing.assert_close(kept.scores, best)
    with pytest.raises(ZigguratError, match="max_detections must be at least 1, got 0"):
        Suppression(max_detections=0)


def scattered(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    corners = 60 * torch.rand(count, 2)
    boxes = torch.cat([corners, corners + 5 + 20 * torch.rand(count, 2)], dim=1)
    return boxes, torch.rand(count), torch.randint(5, (count,))


def one_by_one(
    method: str, boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor
) -> list[tuple[int, float]]:
    """The rules as the paper writes them down, a class after the other."""
    kept = []
    for label in labels.unique().tolist():
        left = {i: float(scores[i]) for i in (labels == label).nonzero()[:, 0].tolist()}
        while left:
            best = max(left, key=lambda i: left[i])
            score = left.pop(best)
            if score >= 1e-4:
                kept.append((best, score))
            for other in left:
                overlap = float(box_iou(boxes[best][None], boxes[other][None]))
                if method == "soft-gaussian":
                    left[other] *= exp(-(overlap**2) / 0.5)
                elif overlap > 0.5:
                    left[other] *= 1 - overlap
    return sorted(kept, key=lambda pair: -pair[1])


@pytest.mark.parametrize("method", ["soft-linear", "soft-gaussian"])
@pytest.mark.parametrize("count", [1, 7, 40, 203])
def test_all_classes_together_give_what_each_gives_alone(method: str, count: int) -> None:
    boxes, scores, labels = scattered(200)
    # The first box is there four times, and the surest.
    boxes, scores = torch.cat([boxes, boxes[[0, 0, 0]]]), torch.cat([scores, torch.rand(3)])
    labels, scores[0] = torch.cat([labels, labels[[0, 0, 1]]]), 0.9999
    rule = Suppression(method)
    result = suppress(boxes, scores, labels, iou=0.5, max_detections=count, suppression=rule)
    expected = one_by_one(method, boxes, scores, labels)[:count]
    assert len(result) == len(expected)
    torch.testing.assert_close(result.boxes, boxes[[index for index, _ in expected]])
    torch.testing.assert_close(result.scores, torch.tensor([score for _, score in expected]))
    torch.testing.assert_close(result.labels, labels[[index for index, _ in expected]])


@pytest.mark.parametrize("method", ["hard", "soft-linear", "soft-gaussian"])
@pytest.mark.parametrize("voting", [None, Voting(), Voting(score="iou_avg")])
def test_nothing_gives_nothing(method: str, voting: Voting | None) -> None:
    empty = BoxCandidates(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), 0.5, 100)
    result = empty.suppress(Suppression(method, voting=voting))
    assert result.boxes.shape == (0, 4)
    assert result.scores.shape == result.labels.shape == (0,)


def test_kept_boxes_move_to_the_mean_of_their_voters() -> None:
    result = found(Suppression(voting=Voting(0.6)))
    assert result.scores.tolist() == SCORES[[0, 2, 3]].tolist()
    left = (0.9 * 0 + 0.8 * 2) / 1.7
    torch.testing.assert_close(result.boxes[0], torch.tensor([left, 0, left + 10, 10]))
    torch.testing.assert_close(result.boxes[1:], BOXES[2:])
    apart = found(Suppression(voting=Voting(0.6)), torch.tensor([0, 1, 0, 0]))
    torch.testing.assert_close(apart.boxes, BOXES)  # other classes have no vote


@pytest.mark.parametrize(
    ("voting", "expected"),
    [
        (Voting(0.6, "avg"), 0.85),
        (Voting(0.6, "iou_avg"), (0.9 + 0.8 * 2 / 3) / (5 / 3)),
        (Voting(0.6, "temp_avg", 2.0), (3 / 4 + 2 / 3) / 2),  # odds of 9 and 4, their roots
        (Voting(0.6, "generalized_avg", 2.0), ((0.81 + 0.64) / 2) ** 0.5),
        (Voting(0.6, "quasi_sum", 0.5), 1.7 / 2**0.5),
    ],
)
def test_scores_of_voted_boxes(voting: Voting, expected: float) -> None:
    _, scores = vote(torch.tensor([0]), SCORES[:1], BOXES, SCORES, ONE_CLASS, voting)
    torch.testing.assert_close(scores, torch.tensor([expected]))


def test_the_best_are_chosen_after_a_vote_that_changes_scores() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 10], [90.0, 0, 100, 10]])
    scores = torch.tensor([0.9, 0.3, 0.7])
    rule = Suppression(voting=Voting(score="avg"))
    result = suppress(boxes, scores, ONE_CLASS[:3], iou=0.5, max_detections=1, suppression=rule)
    assert result.boxes[0, 0] == 90  # 0.7 is more than the mean of 0.9 and 0.3
    torch.testing.assert_close(result.scores, torch.tensor([0.7]))


def test_a_box_without_area_votes_for_itself() -> None:
    boxes = torch.tensor([[5.0, 5.0, 5.0, 9.0]])
    result = suppress(
        boxes,
        SCORES[:1],
        ONE_CLASS[:1],
        iou=0.5,
        max_detections=1,
        suppression=Suppression("soft-gaussian", voting=Voting(score="iou_avg")),
    )
    torch.testing.assert_close(result.boxes, boxes)
    torch.testing.assert_close(result.scores, SCORES[:1])


def test_the_default_is_what_was_published() -> None:
    result = found(HARD)
    assert result.boxes[:, 0].tolist() == [0, 8, 90]
    assert result.scores.tolist() == SCORES[[0, 2, 3]].tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "soft"}, "unknown suppression 'soft'; choose one of hard, soft-linear"),
        ({"method": "soft-gaussian", "sigma": 0.0}, "sigma of a suppression must be above 0"),
        ({"method": "soft-gaussian", "sigma": float("nan")}, "sigma of a suppression must be"),
        ({"method": "soft-linear", "floor": -0.1}, r"floor of a suppression must lie in \[0, 1\)"),
        ({"method": "soft-linear", "floor": 1.0}, "floor of a suppression must lie"),
        ({"method": "soft-linear", "sigma": 0.4}, "sigma has no effect on the suppression"),
        ({"floor": 0.2}, "floor has no effect on the suppression 'hard'"),
    ],
)
def test_bad_suppression(values: dict[str, float], message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        Suppression(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"iou": 0.0}, "must lie above 0 and be at most 1, got 0.0"),
        ({"iou": 1.1}, "at most 1, got 1.1"),
        ({"iou": float("nan")}, "at most 1, got nan"),
        ({"score": "ID"}, "unknown score of voted boxes 'ID'; choose one of id, temp_avg"),
        ({"score": "quasi_sum", "beta": 0.0}, "beta of voted scores must be above 0"),
        ({"score": "avg", "beta": 2.0}, "beta has no effect on the voted score 'avg'"),
    ],
)
def test_bad_voting(values: dict[str, float], message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        Voting(**values)  # type: ignore[arg-type]
