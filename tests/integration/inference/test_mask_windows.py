"""Masks by windows give the same as masks of the whole image would."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ziggurat.inference.mask_windows import concatenate, join_masks, move_masks
from ziggurat.types import Detections, ObjectMasks


def random_masks(seed: int, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, 9, 12, generator=generator) > 0.8
    masks[:, :2] = False
    return masks


def test_moved() -> None:
    full = random_masks(1)
    moved = move_masks(ObjectMasks.from_full(full), 4, 7, (20, 30)).full()
    assert moved.shape == (3, 20, 30)
    torch.testing.assert_close(moved[:, 7:16, 4:16], full)
    assert moved.sum() == full.sum()


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.5, 1.0]))
def test_joined_equals_votes_of_full_masks(seed: int, share: float) -> None:
    full = random_masks(seed, 5)
    full[3] = False
    weights = torch.tensor([0.5, 0.25, 0.125, 1.0, 0.5])
    groups = [[0, 1, 2], [3], [4, 3]]
    joined = join_masks(ObjectMasks.from_full(full), groups, weights, share=share).full()
    for group, mask in zip(groups, joined, strict=True):
        voices = weights[group, None, None]
        votes = (full[group] * voices).sum(dim=0)
        expected = (votes > 0) & (votes >= share * voices.sum())
        torch.testing.assert_close(mask, expected)


def test_groups_without_pixels_stay_empty() -> None:
    masks = ObjectMasks.from_full(torch.zeros(2, 5, 6, dtype=torch.bool))
    joined = join_masks(masks, [[0, 1]], torch.ones(2), share=0.0)
    assert joined.windows.tolist() == [[0, 0, 0, 0]]
    assert len(join_masks(masks, [], torch.ones(2), share=0.0)) == 0


@pytest.mark.parametrize("has_masks", [True, False])
def test_results_of_one_image_are_put_into_one(has_masks: bool) -> None:
    full = random_masks(2)
    found = Detections(
        torch.rand(3, 4), torch.rand(3), torch.arange(3), ObjectMasks.from_full(full)
    )
    if not has_masks:
        found = Detections(found.boxes, found.scores, found.labels)
    nothing = found.select(torch.zeros(3, dtype=torch.bool))
    both = concatenate([found, nothing, found])
    assert len(both) == 6
    torch.testing.assert_close(both.boxes[3:], found.boxes)
    if has_masks:
        assert both.masks is not None
        torch.testing.assert_close(both.masks.full(), torch.cat([full, full]))
    else:
        assert both.masks is None
