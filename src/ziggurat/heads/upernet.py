"""UPerNet's head (Xiao et al., arXiv:1807.10221): pyramid pooling, then a feature pyramid.

The coarsest map is averaged over ever larger parts of the image (pyramid pooling, Zhao et al.,
arXiv:1612.01105), so that every cell knows the scene; from there a feature pyramid goes back to the
finest map, and all its levels together classify.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.heads.pixel_classifier import PixelClassifier
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.initialization import init_convolutions
from ziggurat.layers.resize import resize_like
from ziggurat.ops.pooling import pyramid_average_pool

POOLED_SIDES = (1, 2, 3, 6)
"""Sides of the pooled maps, in cells."""


class PyramidPooling(nn.Module):
    """Averages over parts of the map, beside the map itself.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels that go out, and of every pooled map.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pooled_convs = nn.ModuleList(
            ConvNorm(in_channels, out_channels, 1) for _ in POOLED_SIDES
        )
        self.bottleneck = ConvNorm(in_channels + len(POOLED_SIDES) * out_channels, out_channels, 3)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B out H W"]:
        """Return the map with its context."""
        pooled = pyramid_average_pool(x, [(side, side) for side in POOLED_SIDES])
        parts = [x]
        for conv, part in zip(self.pooled_convs, pooled, strict=True):
            parts.append(resize_like(conv(part).relu(), x))
        context: Tensor = self.bottleneck(torch.cat(parts, dim=1)).relu()
        return context


class UPerNetHead(nn.Module):
    """Pyramid pooling on the coarsest map, a feature pyramid down to the finest, all concatenated.

    Args:
        in_channels: Channels of each map, fine to coarse.
        num_classes: Number of classes K.
        channels: Width of the head.
        dropout: Probability that a channel is left out in training.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        channels: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.pooling = PyramidPooling(in_channels[-1], channels)
        self.lateral_convs = nn.ModuleList(ConvNorm(c, channels, 1) for c in in_channels[:-1])
        self.output_convs = nn.ModuleList(ConvNorm(channels, channels, 3) for _ in in_channels[:-1])
        self.bottleneck = ConvNorm(len(in_channels) * channels, channels, 3)
        init_convolutions(self)
        self.classifier = PixelClassifier(channels, num_classes, dropout=dropout)

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B K H W"]:
        """Return logits at the stride of the finest map."""
        sums = [conv(x).relu() for conv, x in zip(self.lateral_convs, features[:-1], strict=True)]
        sums.append(self.pooling(features[-1]))
        for i in range(len(sums) - 1, 0, -1):
            sums[i - 1] = sums[i - 1] + resize_like(sums[i], sums[i - 1])
        levels = [conv(x).relu() for conv, x in zip(self.output_convs, sums[:-1], strict=True)]
        levels.append(sums[-1])
        levels = [levels[0], *(resize_like(level, levels[0]) for level in levels[1:])]
        logits: Tensor = self.classifier(self.bottleneck(torch.cat(levels, dim=1)).relu())
        return logits
