"""The quick way to label maps gives what resizing every class gives."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ziggurat.ops.label_maps import label_map
from ziggurat.ops.label_squares import windows_of


def plain(
    logits: Tensor, padded: tuple[int, int], image: tuple[int, int], original: tuple[int, int]
) -> Tensor:
    x = F.interpolate(logits[None], size=padded, mode="bilinear", align_corners=False)
    x = x[:, :, : image[0], : image[1]]
    return F.interpolate(x, size=original, mode="bilinear", align_corners=False)[0].argmax(dim=0)


@given(
    classes=st.integers(1, 12),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    factor=st.integers(1, 8),
    original=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    sharpness=st.sampled_from([0.1, 1.0, 20.0]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_plain_way(
    classes: int,
    height: int,
    width: int,
    factor: int,
    original: tuple[int, int],
    sharpness: float,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(classes, height, width, generator=generator)
    padded = (height * factor, width * factor)
    image = (max(1, padded[0] - seed % 3), max(1, padded[1] - seed % 2))
    found = label_map(logits, padded, image, original).labels
    assert torch.equal(found.long(), plain(logits, padded, image, original))


def test_many_blocks_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ziggurat.ops.label_maps._BLOCK_VALUES", 1)
    logits = torch.randn(7, 5, 6, generator=torch.Generator().manual_seed(0))
    found = label_map(logits, (20, 24), (20, 24), (31, 17)).labels
    assert torch.equal(found.long(), plain(logits, (20, 24), (20, 24), (31, 17)))


def test_of_equal_classes_the_first_wins() -> None:
    assert not label_map(torch.zeros(3, 2, 2), (4, 4), (4, 4), (4, 4)).labels.any()


@pytest.mark.parametrize("original", [(320, 448), (250, 349)])
def test_regions_with_a_nearly_tied_border(original: tuple[int, int]) -> None:
    """Squares of one class, squares of several, and pixels where only rounding decides."""
    logits = 0.01 * torch.randn(9, 40, 56, generator=torch.Generator().manual_seed(0))
    logits[3, :, :30] += 8.0
    logits[5, :, 30:] += 8.0
    logits[7, 20:, 10:20] = logits[3, 20:, 10:20]  # equal: the first wins
    sizes = (320, 448), (320, 448), original
    expected = plain(logits, *sizes)
    assert set(expected.unique().tolist()) == {3, 5}
    assert torch.equal(label_map(logits, *sizes).labels.long(), expected)


def test_squares_of_many_classes_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ziggurat.ops.label_squares.MOST_OPEN", 1.0)
    for seed, original in enumerate([(64, 80), (50, 93), (100, 31), (1, 1)]):
        logits = torch.randn(7, 8, 10, generator=torch.Generator().manual_seed(seed))
        found = label_map(logits, (64, 80), (64, 78), original).labels
        assert torch.equal(found.long(), plain(logits, (64, 80), (64, 78), original))


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_logits_that_are_no_numbers_do_not_hang_or_crash(value: float) -> None:
    logits = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    logits[1, 2, 2] = value
    found = label_map(logits, (48, 48), (48, 48), (48, 48)).labels
    clean = plain(logits.nan_to_num(0, 0, 0), (48, 48), (48, 48), (48, 48))
    assert torch.equal(found[32:].long(), clean[32:])  # far from it


def test_windows_hold_all_that_a_pixel_is_made_of() -> None:
    shares = F.interpolate(torch.eye(9)[None, None], size=(70, 9), mode="bilinear")[0, 0]
    windows = windows_of(shares)
    assert windows.cells.shape == (5, 4)
    again = torch.zeros(5, 16, 9)
    again.scatter_(2, windows.cells[:, None].expand(-1, 16, -1), windows.shares)
    assert torch.equal(again.flatten(0, 1)[:70], shares)


def test_mixed_precision_changes_no_label() -> None:
    logits = torch.tensor([1.0, 0.0])[:, None, None].repeat(1, 24, 24)
    logits[:, 8:16, 8:16] = 1 + 0.02 * torch.rand(2, 8, 8)  # of which bfloat16 sees little
    sizes = ((384, 384), (384, 384), (384, 384))
    with torch.autocast("cpu", torch.bfloat16):
        found = label_map(logits, *sizes).labels
    assert torch.equal(found.long(), plain(logits, *sizes))
