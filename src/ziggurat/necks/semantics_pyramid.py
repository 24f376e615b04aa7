"""TopFormer's transformer and injection on any pyramid (Zhang et al., arXiv:2204.05525, section 3).

The paper trains MobileNets with it as well: their maps take the place of the token pyramid.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.semantics import (
    DEPTH,
    SemanticsBlock,
    SemanticsInjection,
    init_weights,
    pool_tokens,
)
from ziggurat.layers.stochastic_depth import drop_path_rates

POOL_STRIDE = 2
"""Cells of the map of stride 32 per cell of the semantics: 64 pixels of the image, as published."""
HEAD_WIDTH = 52
"""Token channels for each attention head: 208 and 4 in the smallest published variant."""
WIDEST = 160
"""Channels of the widest token map that is published; wider maps are projected to it."""


class SemanticsPyramid(nn.Module):
    """Let all scales see each other on one grid, inject what they learn into all but the finest.

    Args:
        in_channels: Channels of the maps, fine to coarse.
        in_strides: Their strides.
        channels: Channels of every map that goes out.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        channels: int,
        *,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Identity() if c <= WIDEST else ConvNorm(c, WIDEST, 1) for c in in_channels
        )
        self.token_channels = tuple(min(c, WIDEST) for c in in_channels)
        width = sum(self.token_channels)
        rates = drop_path_rates(drop_path_rate, (DEPTH,))[0]
        self.blocks = nn.ModuleList(
            SemanticsBlock(width, max(1, round(width / HEAD_WIDTH)), rate) for rate in rates
        )
        self.injections = nn.ModuleList(
            SemanticsInjection(c, channels) for c in self.token_channels[1:]
        )
        self.out_channels = (channels,) * len(self.injections)
        self.out_strides = tuple(in_strides[1:])
        init_weights(self)

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        """Return the injected maps, one fewer than came in."""
        tokens = [project(x) for project, x in zip(self.projections, maps, strict=True)]
        semantics = pool_tokens(tokens, POOL_STRIDE)
        for block in self.blocks:
            semantics = block(semantics)
        by_scale = semantics.split(self.token_channels, dim=1)
        return [
            inject(local, part)
            for inject, local, part in zip(self.injections, tokens[1:], by_scale[1:], strict=True)
        ]
