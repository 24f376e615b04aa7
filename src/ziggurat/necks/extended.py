"""Coarser levels behind a pyramid of the backbone's sizes, as detectors need them."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.strided_conv import StridedConv
from ziggurat.necks.fpt import FeaturePyramidTransformer


class ExtendedPyramid(nn.Module):
    """A Feature Pyramid Transformer of some of the maps, and levels beyond the coarsest.

    Args:
        transformer: Enriches the maps from `start_level` on.
        start_level: Index of the finest map that is used.
        num_extra_levels: Levels behind it, each half as large as the one before.
        by: How a level is made of the one before: a 3x3 convolution of stride 2 ("convolution"),
            or every second cell ("subsample").
    """

    def __init__(
        self,
        transformer: FeaturePyramidTransformer,
        *,
        start_level: int,
        num_extra_levels: int,
        by: Literal["convolution", "subsample"],
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.start_level = start_level
        self.num_extra_levels = num_extra_levels
        channels, strides = transformer.out_channels[-1], transformer.out_strides
        self.out_channels = (*transformer.out_channels, *(channels,) * num_extra_levels)
        self.out_strides = (
            *strides,
            *(strides[-1] * 2 ** (i + 1) for i in range(num_extra_levels)),
        )
        self.convs = nn.ModuleList(
            StridedConv(channels, channels, 3, 2, padding=1)
            for _ in range(num_extra_levels if by == "convolution" else 0)
        )
        for conv in self.convs:
            assert isinstance(conv, StridedConv)
            assert conv.bias is not None
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(
        self, features: Sequence[Float[Tensor, "B _ _ _"]]
    ) -> list[Float[Tensor, "B C _ _"]]:
        """Return the levels, fine to coarse."""
        levels: list[Tensor] = self.transformer(features[self.start_level :])
        for conv in self.convs:
            levels.append(conv(levels[-1]))
        while len(levels) < len(self.out_strides):
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return levels
