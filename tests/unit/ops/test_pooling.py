"""Pooling by products is adaptive average pooling."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from ziggurat.ops.pooling import pyramid_average_pool, round_half_even


@pytest.mark.parametrize("size", [(7, 7), (5, 9), (14, 20), (1, 3)])
def test_equals_adaptive_average_pooling(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last)
    sizes = [(1, 1), (min(3, size[0]), 2), size]
    for pooled, target in zip(pyramid_average_pool(x, sizes), sizes, strict=True):
        torch.testing.assert_close(pooled, F.adaptive_avg_pool2d(x, target))
        assert pooled.is_contiguous(memory_format=torch.channels_last)


def test_averages_made_in_inference_serve_training() -> None:
    x = torch.randn(1, 2, 11, 13)
    with torch.inference_mode():
        pyramid_average_pool(x, [(4, 5)])
    x.requires_grad_()
    pyramid_average_pool(x, [(4, 5)])[0].sum().backward()
    assert x.grad is not None
    assert x.grad.sum().item() == pytest.approx(2 * 4 * 5, rel=1e-5)


def test_averages_made_on_meta_do_not_serve_the_cpu() -> None:
    with torch.device("meta"):
        pyramid_average_pool(torch.empty(1, 2, 17, 19), [(4, 5)])
    pooled = pyramid_average_pool(torch.ones(1, 2, 17, 19), [(4, 5)])[0]
    torch.testing.assert_close(pooled, torch.ones(1, 2, 4, 5))


@pytest.mark.usefixtures("unchecked")
def test_a_program_made_with_two_images_takes_one() -> None:
    class Pool(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return pyramid_average_pool(x, [(3, 2), (2, 4)])

    x = torch.randn(2, 4, 7, 8).contiguous(memory_format=torch.channels_last)
    left_open = {0: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    program = torch.export.export(Pool(), (x,), dynamic_shapes=(left_open,)).module()
    for shape in ((1, 4, 7, 8), (3, 4, 7, 11)):
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        for ours, expected in zip(program(x), Pool()(x), strict=True):
            torch.testing.assert_close(ours, expected)


def test_rounding_is_pythons() -> None:
    for size in range(1, 400):
        for ratio in range(1, 25):
            assert round_half_even(size, ratio) == round(size / ratio), (size, ratio)
