"""Semantic FPN's head (Kirillov et al., Panoptic Feature Pyramid Networks, arXiv:1901.02446).

Each level of a pyramid is brought to stride 4 by a chain of convolutions and doublings, as many as
its stride asks for; the sum of all levels says what every cell shows.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.heads.pixel_classifier import PixelClassifier, sum_at_first_size
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.initialization import init_convolutions


class SemanticFPNHead(nn.Module):
    """Upsample step by step, add, classify.

    Args:
        in_channels: Channels of each level, fine to coarse.
        in_strides: Strides of the levels.
        num_classes: Number of classes K.
        channels: Width of the chains.
        dropout: Probability that a channel is left out in training.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        num_classes: int,
        *,
        channels: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.chains = nn.ModuleList()
        for width, stride in zip(in_channels, in_strides, strict=True):
            doublings = (stride // in_strides[0]).bit_length() - 1
            self.chains.append(_Chain(width, channels, doublings))
        init_convolutions(self)
        self.classifier = PixelClassifier(channels, num_classes, dropout=dropout)

    def forward(self, levels: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B K H W"]:
        """Return logits at the stride of the finest level."""
        chained = (chain(level) for chain, level in zip(self.chains, levels, strict=True))
        # Resized, since a doubled map of odd size is not the size of its neighbour.
        logits: Tensor = self.classifier(sum_at_first_size(chained))
        return logits


class _Chain(nn.Module):
    """A convolution in front of each doubling; one alone where nothing is doubled."""

    def __init__(self, in_channels: int, channels: int, doublings: int) -> None:
        super().__init__()
        self.doublings = doublings
        self.convs = nn.ModuleList(
            ConvNorm(in_channels if i == 0 else channels, channels, 3)
            for i in range(max(1, doublings))
        )

    def forward(self, x: Float[Tensor, "B _ h w"]) -> Float[Tensor, "B C H W"]:
        for conv in self.convs:
            x = conv(x).relu_()
            if self.doublings:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return x
