"""Attention in stripes, held against one loop over stripes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.layers.stripe_attention import StripeAttention


def one_stripe(qkv: Tensor, layer: torch.nn.Conv2d, num_heads: int) -> Tensor:
    """Attend inside one stripe (3, channels, rows, columns), which is all there is."""
    q, k, v = (t.flatten(1).unflatten(0, (num_heads, -1)) for t in qkv)
    scores = (q.mT @ k) / q.shape[1] ** 0.5
    y = (v @ scores.softmax(dim=-1).mT).flatten(0, 1).view_as(qkv[2])
    return y + F.conv2d(qkv[2:], layer.weight, layer.bias, padding=1, groups=len(qkv[2]))[0]


def slowly(module: StripeAttention, image: Tensor) -> Tensor:
    """Go through the stripes of an image (C, H, W) one by one; the last may be one cell thin."""
    half = len(image) // 2
    qkv = F.conv2d(image, module.qkv.weight[:, :, None, None], module.qkv.bias)
    qkv = qkv.unflatten(0, (3, 2 * half))
    vertical, horizontal = qkv.split(half, dim=1)
    heads = module.heads_per_direction
    columns, rows = (layer for layer in module.lepe)
    assert isinstance(columns, torch.nn.Conv2d)
    assert isinstance(rows, torch.nn.Conv2d)
    y = torch.cat(
        (
            torch.cat([one_stripe(s, columns, heads) for s in vertical.split(2, dim=3)], dim=2),
            torch.cat([one_stripe(s, rows, heads) for s in horizontal.split(2, dim=2)], dim=1),
        )
    )
    return F.conv2d(y, module.proj.weight[:, :, None, None], module.proj.bias)


@pytest.mark.parametrize("size", [(4, 6), (5, 4), (4, 3), (5, 7), (1, 6), (1, 1)])
def test_stripes_of_any_map_equal_a_loop_over_them(size: tuple[int, int]) -> None:
    module = StripeAttention(24, 4)
    x = torch.randn(2, 24, *size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = torch.stack([slowly(module, image) for image in x])
        y = module(x)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_gradients_ignore_the_padding_of_odd_maps() -> None:
    module = StripeAttention(8, 2)
    x = torch.randn(1, 8, 3, 5).requires_grad_()
    (ours,) = torch.autograd.grad(module(x).square().sum(), x)
    (expected,) = torch.autograd.grad(slowly(module, x[0]).square().sum(), x)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("dim", "num_heads"), [(24, 3), (24, 10)])
def test_heads_must_be_two_equal_groups(dim: int, num_heads: int) -> None:
    with pytest.raises(ValueError, match="num_heads must be even and divide dim"):
        StripeAttention(dim, num_heads)


@pytest.mark.usefixtures("unchecked")
def test_exports_for_every_size_and_batch() -> None:
    module = StripeAttention(8, 2).eval()
    x = torch.randn(2, 8, 7, 6)
    dims = {i: torch.export.Dim(f"d{i}", min=low, max=64) for i, low in ((0, 1), (2, 4), (3, 4))}
    with torch.no_grad():
        program = torch.export.export(module, (x,), dynamic_shapes=(dims,)).module()
        for shape in ((1, 8, 4, 4), (3, 8, 5, 9)):
            y = torch.randn(shape)
            torch.testing.assert_close(program(y), module(y))
