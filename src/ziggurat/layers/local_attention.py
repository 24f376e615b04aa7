"""Locality-constrained attention as the published code of the Feature Pyramid Transformer has it.

It is the stand-alone self-attention of Ramachandran et al. (arXiv:1906.05909) with a softmax for
each channel: query times key is not summed over channels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.pointwise import PointwiseConv
from ziggurat.ops.channel_attention import channel_attention


class LocalAttention(nn.Module):
    """Each pixel reads the window around it; keys know their row or their column in it.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result, even: half of the keys' know rows, half columns.
        window: Side of the window, odd.

    Raises:
        ValueError: If the channels cannot be halved.
    """

    def __init__(self, in_channels: int, out_channels: int, window: int) -> None:
        super().__init__()
        if out_channels % 2:
            raise ValueError(f"out_channels must be even, got {out_channels}")
        self.window = window
        self.q = PointwiseConv(in_channels, out_channels, bias=False)
        self.k = PointwiseConv(in_channels, out_channels, bias=False)
        self.v = PointwiseConv(in_channels, out_channels, bias=False)
        self.rows = nn.Parameter(torch.randn(out_channels // 2, window))
        self.columns = nn.Parameter(torch.randn(out_channels // 2, window))

    def forward(self, x: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B C H W"]:
        """Return what each pixel found."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        shares = self.rows.new_ones(1, self.window**2)
        return channel_attention(
            q, k, v[:, None], places=self._places(), shares=shares, window=self.window
        )

    def attention(
        self, x: Float[Tensor, "B _ H W"], row: int, column: int
    ) -> Float[Tensor, "B H W"]:
        """Return where a pixel looks, as the mean of its channels."""
        reach = self.window // 2
        padded = F.pad(self.k(x), (reach,) * 4)
        place = (slice(row, row + self.window), slice(column, column + self.window))
        products = self.q(x)[:, :, row, column, None] * (
            padded[:, :, *place].flatten(2) + self._places()
        )
        looks = padded.new_zeros(len(x), *padded.shape[2:])
        looks[:, *place] = products.softmax(dim=2).mean(dim=1).unflatten(1, (self.window, -1))
        return looks[:, reach : reach + x.shape[2], reach : reach + x.shape[3]]

    def _places(self) -> Float[Tensor, "C K"]:
        sides = (-1, self.window, self.window)
        places = (self.rows[:, :, None].expand(sides), self.columns[:, None].expand(sides))
        return torch.cat(places).flatten(1)


class LocalAttentionStem(nn.Module):
    """The same with several maps of values, which are mixed by where in the window they stand.

    The published code has it for the beginning of a network, and none of its pyramids uses it.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result.
        window: Side of the window, odd.
        num_maps: Maps of values.
        place_channels: Numbers that describe a row or a column of the window.
    """

    def __init__(
        self, in_channels: int, out_channels: int, window: int, num_maps: int, place_channels: int
    ) -> None:
        super().__init__()
        self.window = window
        self.num_maps = num_maps
        self.q = PointwiseConv(in_channels, out_channels, bias=False)
        self.k = PointwiseConv(in_channels, out_channels, bias=False)
        self.v = PointwiseConv(in_channels, num_maps * out_channels, bias=False)
        self.rows = nn.Parameter(torch.randn(place_channels, window))
        self.columns = nn.Parameter(torch.randn(place_channels, window))
        self.mix = nn.Parameter(torch.randn(num_maps, place_channels))

    def forward(self, x: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B C H W"]:
        """Return what each pixel found."""
        rows, columns = self.mix @ self.rows, self.mix @ self.columns
        shares = (rows[:, :, None] + columns[:, None]).softmax(dim=0).flatten(1)

        q, k = self.q(x), self.k(x)
        v = self.v(x).unflatten(1, (self.num_maps, -1))
        nowhere = q.new_zeros(q.shape[1], self.window**2)
        return channel_attention(q, k, v, places=nowhere, shares=shares, window=self.window)
