"""Steps of the image pipeline of label maps."""

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.data.channels import normalize
from ziggurat.data.resize import resize_exact, resize_fast
from ziggurat.data.segmentation import SegmentationTransform, resize_labels
from ziggurat.preprocessing import FitAligned


def test_the_memory_of_the_image_does_not_matter() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).transpose(1, 2, 0)
    expected = normalize(pixels, FitAligned())
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (FitAligned.mean, FitAligned.std)
    )
    by_hand = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(expected, by_hand, atol=1e-5, rtol=1e-5)
    assert torch.equal(normalize(planes, FitAligned()), expected)
    assert torch.equal(normalize(pixels[:, ::-1], FitAligned()), expected.flip(2))
    assert torch.equal(normalize(pixels[1:4, 2:7], FitAligned()), expected[:, 1:4, 2:7])


def test_labels_are_those_of_the_nearest_pixel() -> None:
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert resize_labels(labels, (4, 3)).tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]]
    assert resize_labels(labels, (1, 2)).tolist() == [[0, 1]]


@pytest.mark.parametrize(("width", "crop"), [(1, (8, 8)), (2, (8, 1))])
def test_maps_of_one_column_are_mirrored(width: int, crop: tuple[int, int]) -> None:
    transform = SegmentationTransform(
        FitAligned(short_side=width, long_side=40), crop, scale=(1.0, 1.0), flip=1.0
    )
    pixels = np.zeros((40, width, 3), dtype=np.uint8)
    image, target = transform(Image.fromarray(pixels), np.zeros((40, width), dtype=np.uint8))
    assert image.shape == (3, *crop)
    assert target.labels.shape == crop


@pytest.mark.parametrize("is_fast", [False, True])
def test_training_resizes_as_published_unless_it_may_be_faster(is_fast: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 50, 3)).astype(np.uint8)
    limits = FitAligned(short_side=60, long_side=90)
    transform = SegmentationTransform(
        limits, (60, 81), scale=(1.0, 1.0), flip=0.0, is_distorted=False, is_fast=is_fast
    )
    image, _ = transform(Image.fromarray(pixels), np.zeros((37, 50), dtype=np.uint8))
    exact, fast = (
        normalize(resize(pixels, (60, 81)), limits) for resize in (resize_exact, resize_fast)
    )
    assert not torch.equal(exact, fast)
    assert torch.equal(image, fast if is_fast else exact)
