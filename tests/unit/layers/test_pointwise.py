"""1x1 convolutions as products give what the convolutions give."""

import pytest
import torch
import torch.nn.functional as F

from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.pointwise import ChannelFactors, PointwiseConv
from ziggurat.layers.strided_conv import StridedConv


@pytest.mark.parametrize("kind", ["factors", "pointwise"])
def test_products_are_convolutions(kind: str) -> None:
    conv = (ChannelFactors(6) if kind == "factors" else PointwiseConv(6, 4)).double()
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64).requires_grad_()
    found = conv(x)
    expected = F.conv2d(x, conv.weight, conv.bias, groups=conv.groups)
    torch.testing.assert_close(found, expected)
    inputs, slope = [x, *conv.parameters()], torch.randn_like(found)
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, slope), torch.autograd.grad(expected, inputs, slope)
    )


def test_a_map_of_half_precision_stays_so() -> None:
    x = torch.randn(1, 6, 2, 2, dtype=torch.bfloat16)
    assert ChannelFactors(6)(x).dtype == torch.bfloat16


def test_which_convolutions_are_products() -> None:
    assert isinstance(ConvNorm(6, 4, 1).conv, PointwiseConv)
    assert isinstance(ConvNorm(6, 6, 1, groups=6).conv, ChannelFactors)
    assert type(ConvNorm(6, 6, 1, groups=3).conv) is torch.nn.Conv2d
    assert type(ConvNorm(6, 6, 1, stride=2, groups=6).conv) is StridedConv
