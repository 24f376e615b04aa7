"""The quick way to label maps gives what resizing every class gives."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ziggurat.ops.label_maps import label_map, possible_classes


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


def test_classes_that_cannot_win_are_left_out() -> None:
    logits = torch.zeros(4, 6, 6)
    logits[1] = 5.0  # best everywhere but in one corner
    logits[2, :2, :2] = 9.0
    assert possible_classes(logits, reach=1).tolist() == [1, 2]
