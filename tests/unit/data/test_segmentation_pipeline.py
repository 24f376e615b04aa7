"""Steps of the image pipeline of label maps."""

import numpy as np
import torch

from ziggurat.data.segmentation import normalize, resize_labels
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
