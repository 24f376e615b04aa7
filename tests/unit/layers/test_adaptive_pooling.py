"""Adaptive feature pooling: what is read of every level, and what of it is kept."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ziggurat.layers.adaptive_pooling import AdaptiveFeaturePooling
from ziggurat.layers.group_norm import group_norm
from ziggurat.layers.initialization import init_caffe2
from ziggurat.layers.linear_norm import LinearNorm

REGION = torch.tensor([[2.0, 2.0, 7.0, 7.0]])
"""Five by five pixels: from pixel 2 to pixel 6 of each axis."""


class Scale(nn.Module):
    """Multiplies by a number that learns."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def ramp(side: int, step: float = 1.0) -> Tensor:
    """A map whose value is the number of its column."""
    return (step * torch.arange(float(side))).expand(1, 1, side, side).clone()


def test_means_of_points_from_the_first_to_the_last_pixel() -> None:
    pooling = AdaptiveFeaturePooling([1], 2, [nn.Identity()])
    # Cells of 2 x 2 pixels from 2 to 6, their points at a quarter and at three quarters.
    expected = torch.tensor([[3.0, 5.0], [3.0, 5.0]])
    assert torch.equal(pooling([ramp(12)], [REGION])[0, 0], expected)


def test_largest_pixels() -> None:
    pooling = AdaptiveFeaturePooling([1], 2, [nn.Identity()], method="max")
    # Five pixels in two cells: 2 to 4 and 4 to 6.
    assert torch.equal(pooling([ramp(12)], [REGION])[0, 0], torch.tensor([[4.0, 6.0]] * 2))


@pytest.mark.parametrize("method", ["align", "max"])
def test_every_level_is_read_and_the_largest_kept(method: Any) -> None:
    fine = torch.zeros(2, 1, 12, 12)
    coarse = torch.zeros(2, 1, 6, 6)
    fine[0], coarse[0] = 1.0, -3.0
    fine[1], coarse[1] = -2.0, -1.0
    pooling = AdaptiveFeaturePooling([1, 2], 2, [Scale(5.0), Scale(-2.0)], method=method)
    kept = pooling([fine, coarse], [REGION, REGION.repeat(2, 1)])
    # In the first image 5 and 6, in the second -10 and 2, which are the same in every cell.
    assert kept[:, 0, 0, 0].tolist() == [6.0, 2.0, 2.0]
    assert (kept == kept[:, :, :1, :1]).all()


def test_nothing_below_zero_is_kept() -> None:
    pooling = AdaptiveFeaturePooling([1, 2], 2, [nn.Identity(), nn.Identity()])
    assert not pooling([-1 - ramp(12), -1 - ramp(6)], [REGION]).any()


def test_the_level_that_says_most_learns() -> None:
    layers = [Scale(1.0), Scale(2.0)]
    pooling = AdaptiveFeaturePooling([1, 2], 2, layers)
    maps = [torch.ones(1, 1, 12, 12, requires_grad=True) for _ in layers]
    pooling(maps, [REGION]).sum().backward()
    assert [layer.factor.grad.item() for layer in layers if layer.factor.grad is not None] == [0, 4]
    assert maps[0].grad is not None and not maps[0].grad.any()
    assert maps[1].grad is not None and maps[1].grad.sum() == 8


@pytest.mark.parametrize("method", ["align", "max"])
def test_without_regions_everything_stays_in_the_graph(method: Any) -> None:
    layers = [LinearNorm(4, 32, group_norm), LinearNorm(4, 32, group_norm)]
    pooling = AdaptiveFeaturePooling([1, 2], 2, layers, method=method)
    maps = [ramp(12).requires_grad_(), ramp(6).requires_grad_()]
    kept = pooling(maps, [torch.zeros(0, 4), torch.zeros(0, 4)])
    assert kept.shape == (0, 32)
    kept.sum().backward()
    gradients = [x.grad for x in (*maps, *pooling.parameters())]
    assert all(g is not None and not g.any() for g in gradients)


def test_regions_beyond_the_map_and_without_area() -> None:
    pooling = AdaptiveFeaturePooling([1], 2, [nn.Identity()])
    regions = torch.tensor([[-90.0, -90.0, -50.0, -50.0], [5.0, 5.0, 5.0, 5.0]])
    kept = pooling([ramp(12)], [regions])
    assert not kept[0].any()
    assert kept[1].isfinite().all()


def test_one_layer_for_each_level() -> None:
    with pytest.raises(ValueError, match="4 levels need a layer each, got 1 layers"):
        AdaptiveFeaturePooling([4, 8, 16, 32], 7, [nn.Identity()])


@pytest.mark.parametrize(
    ("channels", "least", "groups"),
    [(256, 8, 32), (128, 8, 16), (128, 4, 32), (12, 4, 1), (1, 4, 1)],
)
def test_groups_have_enough_channels(channels: int, least: int, groups: int) -> None:
    assert group_norm(channels, least=least).num_groups == groups


def test_initial_values_of_caffe2() -> None:
    conv, up, linear = nn.Conv2d(64, 128, 3), nn.ConvTranspose2d(64, 128, 2), nn.Linear(400, 300)
    init_caffe2(nn.ModuleList([conv, up, linear, nn.Conv2d(4, 4, 1, bias=False)]))
    assert conv.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    # Its weight has what comes in as its first dimension, which both call what goes out.
    assert up.weight.std().item() == pytest.approx((2 / (64 * 4)) ** 0.5, rel=0.02)
    assert linear.weight.std().item() == pytest.approx((1 / 400) ** 0.5, rel=0.02)
    assert linear.weight.abs().max() <= (3 / 400) ** 0.5
    for layer in (conv, up, linear):
        assert layer.bias is not None and not layer.bias.any()
