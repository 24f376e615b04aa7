"""SegFormer's mixing is the convolution of resized maps, though it never resizes them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.fast.inference import Optimized, optimize_for_inference
from ziggurat.heads.segformer import Mixing, SegFormerHead
from ziggurat.zoo import create_model

SIZES = [(13, 17), (7, 9), (4, 5), (1, 2)]


def _plain(mixing: Mixing, maps: list[Tensor]) -> Tensor:
    """As the paper puts it: resize, concatenate, convolve."""
    resized = [
        F.interpolate(x, size=maps[0].shape[2:], mode="bilinear", align_corners=False) for x in maps
    ]
    y: Tensor = mixing.norm(F.conv2d(torch.cat(resized, dim=1), mixing.conv.weight))
    return y


@pytest.mark.parametrize("learns", [True, False])
def test_maps_of_several_sizes_mix_as_resized_ones(learns: bool) -> None:
    mixing = Mixing(len(SIZES), 6).double().train(learns)
    maps = [torch.randn(2, 6, *size, dtype=torch.float64).requires_grad_() for size in SIZES]
    slope = torch.randn(2, 6, *SIZES[0], dtype=torch.float64)
    inputs = [*maps, mixing.conv.weight]
    found, expected = mixing(maps), _plain(mixing, maps)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, slope), torch.autograd.grad(expected, inputs, slope)
    )


def test_the_head_reads_a_pyramid() -> None:
    head = SegFormerHead((4, 8), 3, channels=8).eval()
    assert head([torch.randn(1, 4, 8, 6), torch.randn(1, 8, 4, 3)]).shape == (1, 3, 8, 6)


def test_the_mixing_is_folded_for_inference() -> None:
    model = create_model("segformer", backbone="topformer_tiny", num_classes=3, head_channels=16)
    model.eval()
    for name, entry in model.state_dict().items():
        if "norm" in name and entry.is_floating_point():
            entry.uniform_(0.5, 1.5)
    optimized = optimize_for_inference(model, use_kernel=False)
    assert isinstance(optimized.head.mixing, Optimized)
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        found, expected = optimized(images), model(images)
    assert float((found - expected).norm() / expected.norm()) < 2e-5
    # With gradients the plain part computes.
    torch.testing.assert_close(optimized(images.requires_grad_()), model(images))
