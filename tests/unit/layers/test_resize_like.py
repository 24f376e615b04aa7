"""Maps come to the size of another map."""

import torch
import torch.nn.functional as F

from ziggurat.layers.resize import resize_like


def test_a_map_gets_the_size_of_another() -> None:
    x, like = torch.randn(2, 3, 5, 7), torch.empty(1, 4, 8, 6)
    expected = F.interpolate(x, size=(8, 6), mode="bilinear", align_corners=False)
    assert torch.equal(resize_like(x, like), expected)


def test_a_map_of_the_size_is_not_copied() -> None:
    x = torch.randn(2, 3, 5, 7)
    assert resize_like(x, torch.empty(1, 4, 5, 7)) is x
    # The values are those of a resize, which would copy.
    assert torch.equal(F.interpolate(x, size=(5, 7), mode="bilinear", align_corners=False), x)
