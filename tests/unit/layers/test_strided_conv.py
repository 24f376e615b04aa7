"""A convolution with a stride learns from maps that are narrower than its stride."""

import pytest
import torch
from torch import Tensor

from ziggurat.layers.strided_conv import StridedConv

REPEATS = 8
"""What memory held before decides what a wrong gradient is; one of several is noticed."""


@pytest.mark.parametrize(
    ("kernel", "stride", "width"), [(3, 2, 1), (3, 2, 2), (3, 4, 3), (7, 4, 2)]
)
def test_gradients_in_bf16_are_those_of_float32(kernel: int, stride: int, width: int) -> None:
    torch.manual_seed(0)
    conv = StridedConv(32, 32, kernel, stride, padding=kernel // 2)
    x = torch.randn(2, 32, 4, width)
    expected = gradient(conv, x)
    for _ in range(REPEATS):
        with torch.autocast("cpu", torch.bfloat16):
            found = gradient(conv, x)
        assert (found - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_columns_behind_the_padding_change_nothing(width: int) -> None:
    conv = StridedConv(4, 6, 3, 4, padding=1)
    x = torch.randn(2, 4, 9, width)
    with torch.no_grad():
        plain = conv(x)
    torch.testing.assert_close(conv(x), plain)
    assert plain.shape == (2, 6, 3, -(-width // 4))


def gradient(conv: StridedConv, x: Tensor) -> Tensor:
    conv.zero_grad()
    conv(x).float().square().sum().backward()
    assert conv.weight.grad is not None
    return conv.weight.grad.clone()
