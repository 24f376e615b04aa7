"""What stands around the transformers of a pyramid: projections, sums and fusions."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.group_norm import group_norm
from ziggurat.layers.pointwise import PointwiseConv
from ziggurat.layers.resize import resize_like
from ziggurat.layers.strided_conv import StridedConv

Norm = Literal["group", "batch", "none"]


class Fusion(nn.Module):
    """A 3x3 convolution of concatenated maps, as the sum of convolutions of each.

    Args:
        num_maps: Number of maps.
        channels: Channels of each map, and of the result.
        norm: Norm behind it.
    """

    def __init__(self, num_maps: int, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_maps * channels, channels, 3, padding=1, bias=norm == "none")
        self.norm = _norm(norm, channels)

    def forward(self, maps: Iterator[Float[Tensor, "B C H W"]]) -> Float[Tensor, "B C H W"]:
        """Return the fused map; the maps are taken one after the other."""
        total, bias = None, self.conv.bias
        channels = self.conv.weight.shape[0]
        for x, weight in zip(maps, self.conv.weight.split(channels, dim=1), strict=True):
            part = F.conv2d(x, weight, bias, padding=1)
            bias = None
            total = part if total is None else total + part
        fused: Tensor = self.norm(total)
        return fused


class BottomUp(nn.Module):
    """Sums from fine to coarse: each map gets the next finer one, halved by a convolution.

    Liu et al., arXiv:1803.01534, section 3.1.

    Args:
        channels: Channels of every map.
        strides: Strides of the maps, fine to coarse.
    """

    def __init__(self, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            StridedConv(channels, channels, 3, max(1, round(coarse / fine)), padding=1)
            for fine, coarse in zip(strides[:-1], strides[1:], strict=True)
        )

    def forward(self, maps: Sequence[Float[Tensor, "B C _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        """Return the sums, fine to coarse."""
        sums = [maps[0]]
        for conv, x in zip(self.convs, maps[1:], strict=True):
            sums.append(x + resize_like(conv(sums[-1]), x))
        return sums


class Projection(nn.Sequential):
    """1x1 convolution and norm.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result.
        norm: Norm behind it; without one it has a bias.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__(
            PointwiseConv(in_channels, out_channels, bias=norm == "none"),
            _norm(norm, out_channels),
        )


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    return group_norm(channels) if norm == "group" else nn.BatchNorm2d(channels)
