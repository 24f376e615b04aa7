"""SegFormer's head (Xie et al., NeurIPS 2021, arXiv:2105.15203): nothing but 1x1 convolutions.

A transformer's maps know the whole image already, so the head need not look around: each map is
projected, all are resized to the finest, and one more projection mixes them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.heads.pixel_classifier import PixelClassifier, resize_like
from ziggurat.layers.conv_norm import ConvNorm


class SegFormerHead(nn.Module):
    """Project, resize, concatenate, mix, classify.

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
        channels: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.projections = nn.ModuleList(ConvNorm(c, channels, 1) for c in in_channels)
        self.mixing = ConvNorm(len(in_channels) * channels, channels, 1)
        self.classifier = PixelClassifier(channels, num_classes, dropout=dropout)

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B K H W"]:
        """Return logits at the stride of the finest map."""
        maps = [conv(x).relu() for conv, x in zip(self.projections, features, strict=True)]
        maps = [maps[0], *(resize_like(x, maps[0]) for x in maps[1:])]
        logits: Tensor = self.classifier(self.mixing(torch.cat(maps, dim=1)).relu())
        return logits
