"""SegFormer's head (Xie et al., NeurIPS 2021, arXiv:2105.15203): nothing but 1x1 convolutions.

A transformer's maps know the whole image already, so the head need not look around: each map is
projected, all are resized to the finest, and one more projection mixes them. The mixing is a sum
over maps, and bilinear resizing commutes with it: each map is multiplied at its own size, and what
is resized and added up is the same but for rounding. Maps of strides 4 to 32 need a third of the
products so, those of one size as many, and neither a map of all channels at the finest size.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.heads.pixel_classifier import PixelClassifier, sum_at_first_size
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.initialization import init_convolutions
from ziggurat.layers.pointwise import PointwiseConv
from ziggurat.layers.tokens import to_map, to_tokens


class Mixing(nn.Module):
    """1x1 convolution of maps that are resized to the first and concatenated, and a norm.

    Args:
        num_maps: Number of maps.
        channels: Channels of each map, and of the result.
    """

    def __init__(self, num_maps: int, channels: int) -> None:
        super().__init__()
        self.conv = PointwiseConv(num_maps * channels, channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, maps: Sequence[Float[Tensor, "B C _ _"]]) -> Float[Tensor, "B C H W"]:
        """Return the mixture at the size of the first map."""
        weights = self.conv.weight.flatten(1).chunk(len(maps), dim=1)
        products = (
            to_map(F.linear(to_tokens(x), weight), x.shape[2:])
            for x, weight in zip(maps, weights, strict=True)
        )
        mixed: Tensor = self.norm(sum_at_first_size(products))
        return mixed


class SegFormerHead(nn.Module):
    """Project, resize, mix, classify.

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
        self.mixing = Mixing(len(in_channels), channels)
        init_convolutions(self)
        self.classifier = PixelClassifier(channels, num_classes, dropout=dropout)

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B K H W"]:
        """Return logits at the stride of the finest map."""
        maps = [conv(x).relu_() for conv, x in zip(self.projections, features, strict=True)]
        logits: Tensor = self.classifier(self.mixing(maps).relu_())
        return logits
