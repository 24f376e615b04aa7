"""Spatial-reduction attention: the formula, its reduction, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ziggurat.layers.spatial_reduction_attention import (
    SpatialReductionAttention,
    StridedReduction,
    spatial_reduction,
)
from ziggurat.layers.tokens import to_tokens


def channels_last(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("ratio", [1, 2])
def test_it_is_softmax_attention_to_the_reduced_map(ratio: int) -> None:
    attn = SpatialReductionAttention(8, 2, spatial_reduction(8, ratio))
    x = channels_last(1, 8, 4, 6)
    reduced = x
    if isinstance(attn.reduction, StridedReduction):
        conv = F.conv2d(x, attn.reduction.conv.weight, attn.reduction.conv.bias, stride=ratio)
        reduced = F.layer_norm(conv.permute(0, 2, 3, 1), (8,), eps=1e-5).permute(0, 3, 1, 2)
    q = attn.q(x.flatten(2).mT)
    k, v = attn.kv(reduced.flatten(2).mT).split(8, dim=2)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):  # a head is four channels in a row
        weights = (q[..., head] @ k[..., head].mT / 2).softmax(dim=-1)
        heads.append(weights @ v[..., head])
    expected = attn.proj(torch.cat(heads, dim=2))
    torch.testing.assert_close(to_tokens(attn(x)), expected)


def test_its_output_is_channels_last() -> None:
    attn = SpatialReductionAttention(8, 2, spatial_reduction(8, 2))
    assert attn(channels_last(2, 8, 4, 6)).is_contiguous(memory_format=torch.channels_last)


def test_a_reduced_map_is_shorter_by_the_ratio_and_rounded_down() -> None:
    assert StridedReduction(4, 3)(channels_last(1, 4, 8, 9)).shape == (1, 4, 2, 3)


def test_epsilon_of_the_reduction_is_the_larger_one() -> None:
    assert StridedReduction(4, 2).norm.eps == 1e-5


def test_a_ratio_of_one_has_no_parameters() -> None:
    assert isinstance(spatial_reduction(4, 1), nn.Identity)


def test_plain_attention_does_not_depend_on_how_tokens_lie() -> None:
    attn = SpatialReductionAttention(8, 2, nn.Identity())
    x = channels_last(1, 8, 4, 6)
    column = x.flatten(2).unflatten(2, (24, 1))
    torch.testing.assert_close(attn(column).flatten(2), attn(x).flatten(2))


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="num_heads must divide dim, got dim=8, num_heads=3"):
        SpatialReductionAttention(8, 3, nn.Identity())
