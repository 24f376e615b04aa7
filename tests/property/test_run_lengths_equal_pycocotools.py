"""Run lengths made of windows equal those that pycocotools makes of masks of the whole image."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as oracle

from ziggurat.ops.run_lengths import encode_masks, read_counts
from ziggurat.types import ObjectMasks


def random_masks(seed: int) -> torch.Tensor:
    """Noise, blobs, full and empty masks, some of them reaching the edges of the image."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 40, 2))
    masks = []
    for _ in range(int(rng.integers(0, 6))):
        mask = rng.random((height, width)) < rng.choice([0.0, 0.05, 0.5, 1.0])
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        kind = int(rng.integers(0, 3))
        if kind == 0:
            mask[:, :left] = False
            mask[:top] = False
        elif kind == 1:
            mask[:, left:] = False
        masks.append(torch.from_numpy(mask))
    return torch.stack(masks) if masks else torch.zeros((0, height, width), dtype=torch.bool)


@given(seed=st.integers(0, 10**6))
def test_equals_pycocotools(seed: int) -> None:
    masks = random_masks(seed)
    texts = encode_masks(ObjectMasks.from_full(masks))
    assert len(texts) == len(masks)
    for text, mask in zip(texts, masks.numpy(), strict=True):
        expected = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert text == expected["counts"].decode()
        counts = read_counts(text)
        values = np.repeat(np.arange(len(counts)) % 2, counts)
        assert (values.reshape(mask.shape, order="F") == mask).all()


def test_windows_larger_than_their_objects() -> None:
    mask = torch.zeros((1, 7, 9), dtype=torch.bool)
    mask[0, 2:5, 3:4] = True
    wide = ObjectMasks(mask[:, :, 1:8].flatten(), torch.tensor([[1, 0, 7, 7]]), (7, 9))
    assert encode_masks(wide) == encode_masks(ObjectMasks.from_full(mask))


def test_a_large_image() -> None:
    masks = ObjectMasks(
        torch.ones(6, dtype=torch.bool), torch.tensor([[29_990, 39_000, 2, 3]]), (40_000, 30_000)
    )
    (text,) = encode_masks(masks)
    area = oracle.area({"size": list(masks.size), "counts": text.encode()})
    assert area == 6


@pytest.mark.parametrize("text", ["", "0~", "0\u00e9", "P", "oooooooooo1"])
def test_damaged_text(text: str) -> None:
    with pytest.raises(ValueError, match="compressed run lengths"):
        read_counts(text)
