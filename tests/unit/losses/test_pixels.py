"""Cross entropy of pixels: its normaliser, its ignored pixels, its weights."""

import math

import pytest
import torch
import torch.nn.functional as F

from ziggurat.losses.pixels import pixel_cross_entropy, stack_labels
from ziggurat.types import LabelMap


def test_ignored_pixels_count_in_the_division() -> None:
    labels = torch.tensor([[[0, 1], [255, 255]]])
    loss = pixel_cross_entropy(torch.zeros(1, 4, 2, 2), labels)
    assert loss.item() == pytest.approx(2 * math.log(4) / 4)


def test_logits_are_resized_to_the_labels() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(3, (2, 16, 20), generator=torch.Generator().manual_seed(1))
    resized = F.interpolate(logits, size=(16, 20), mode="bilinear", align_corners=False)
    expected = F.cross_entropy(resized, labels)
    assert pixel_cross_entropy(logits, labels).item() == pytest.approx(expected.item(), rel=1e-5)


def test_class_weights() -> None:
    labels = torch.tensor([[[0, 1]]])
    loss = pixel_cross_entropy(torch.zeros(1, 2, 1, 2), labels, torch.tensor([3.0, 0.0]))
    assert loss.item() == pytest.approx(3 * math.log(2) / 2)


def test_a_batch_without_labels_gives_zero_and_finite_gradients() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.full((1, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_label_maps_of_several_sizes_are_padded_with_ignored_pixels() -> None:
    maps = [
        LabelMap(torch.zeros(2, 3, dtype=torch.uint8)),
        LabelMap(torch.ones(3, 2, dtype=torch.uint8)),
    ]
    stacked = stack_labels(maps)
    assert stacked.tolist() == [
        [[0, 0, 0], [0, 0, 0], [255, 255, 255]],
        [[1, 1, 255], [1, 1, 255], [1, 1, 255]],
    ]
