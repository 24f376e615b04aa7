"""Matching and candidates of dense heads on values that a hand can compute."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ziggurat.ops.anchors import AnchorGrid
from ziggurat.ops.atss_matching import match_by_statistics
from ziggurat.ops.candidates import CandidateRule, best_candidates
from ziggurat.ops.matching import BACKGROUND, IGNORED, match_by_iou

GRID = AnchorGrid(scales=(8.0,), ratios=(1.0,))


class LargestTensor(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that an operation made."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple) else (result,):
            if isinstance(value, torch.Tensor):
                self.bytes = max(self.bytes, value.untyped_storage().nbytes())
        return result


def test_an_object_like_an_anchor_gets_it() -> None:
    level = GRID.level((8, 8), 8)
    matches = match_by_statistics([level], [torch.ones(64, dtype=torch.bool)], level[27:28])
    assert matches[27] == 0
    assert (matches == 0).sum() < 9  # not all of the nine candidates stand out
    assert (matches == BACKGROUND).sum() == 64 - (matches == 0).sum()


def test_anchors_that_do_not_count_are_ignored() -> None:
    level = GRID.level((4, 4), 8)
    counted = torch.zeros(16, dtype=torch.bool)
    counted[:8] = True
    matches = match_by_statistics([level], [counted], level[:1] + 1)
    assert (matches[8:] == IGNORED).all()
    assert (matches[:8] != IGNORED).all()


@pytest.mark.parametrize("boxes", [torch.zeros(0, 4), torch.tensor([[5.0, 5.0, 5.0, 5.0]])])
def test_nothing_or_an_empty_box_is_background(boxes: torch.Tensor) -> None:
    level = GRID.level((4, 4), 8)
    matches = match_by_statistics([level], [torch.ones(16, dtype=torch.bool)], boxes)
    assert (matches == BACKGROUND).all()


def test_the_higher_overlap_wins_and_of_equal_ones_the_first() -> None:
    level = GRID.level((8, 8), 8)
    counted = [torch.ones(64, dtype=torch.bool)]
    same = level[[27, 27]]
    assert set(match_by_statistics([level], counted, same).tolist()) == {BACKGROUND, 0}
    wide = torch.stack([level[27] + torch.tensor([-9.0, 0.0, 9.0, 0.0]), level[27]])
    assert match_by_statistics([level], counted, wide)[27] == 1


def test_memory_of_2000_objects_is_bounded() -> None:
    level = GRID.level((100, 168), 8)
    corners = torch.rand(2000, 2) * 700
    boxes = torch.cat([corners, corners + 5 + torch.rand(2000, 2) * 90], dim=1)
    counted = [torch.ones(len(level), dtype=torch.bool)]
    with LargestTensor() as largest:
        found = match_by_statistics([level], counted, boxes, max_pairs=1_000_000)
    assert largest.bytes < 8_000_000  # all pairs at once would be 134 MB
    assert (found == match_by_statistics([level], counted, boxes, max_pairs=10**9)).all()


def test_memory_of_matching_2000_objects_by_iou_is_bounded() -> None:
    level = GRID.level((50, 84), 8)
    corners = torch.rand(2000, 2) * 350
    boxes = torch.cat([corners, corners + 5 + torch.rand(2000, 2) * 90], dim=1)
    found = []
    for options in ({}, {"max_pairs": 500_000}):
        with LargestTensor() as largest:
            matches = match_by_iou(level, boxes, foreground_iou=0.5, background_iou=0.4, **options)
        found.append(matches)
        # Two numbers of 4 bytes a pair, or one of 8: all at once would be 67 MB.
        assert largest.bytes <= 8 * options.get("max_pairs", 2_000_000)
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("anchors", [(0, 0), (0, 1)]), ("pairs", [(0, 0), (1, 1)])],
)
def test_rules_differ_in_the_second_class(
    rule: CandidateRule, expected: list[tuple[int, int]]
) -> None:
    logits = torch.tensor([[3.0, 1.0], [-9.0, 2.0], [-9.0, -9.0]])
    count = {"anchors": 1, "pairs": 2}[rule]
    found = best_candidates(logits, None, rule=rule, count=count, threshold=0.05)
    assert list(zip(found.anchors.tolist(), found.labels.tolist(), strict=True)) == expected


def test_quality_counts_after_the_threshold() -> None:
    found = best_candidates(
        torch.zeros(2, 1), torch.tensor([0.01, 1.0]), rule="anchors", count=1, threshold=0.05
    )
    assert found.anchors.tolist() == [1]
    both = best_candidates(
        torch.zeros(2, 1), torch.tensor([0.01, 1.0]), rule="anchors", count=2, threshold=0.05
    )
    torch.testing.assert_close(both.scores, torch.tensor([0.005, 0.5]))


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_extreme_thresholds(threshold: float) -> None:
    logits = torch.tensor([[-20.0], [20.0]])
    found = best_candidates(logits, None, rule="anchors", count=9, threshold=threshold)
    assert len(found.anchors) == (2 if threshold == 0 else 0)
