"""A plain convolutional head (Long et al., arXiv:1411.4038), which helps others in training.

As an auxiliary head it classifies a map of the backbone directly, so that gradients reach it on a
short way; nothing of it is left in prediction.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.heads.pixel_classifier import PixelClassifier
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.initialization import init_convolutions


class FCNHead(nn.Module):
    """One 3x3 convolution and a classifier on one map.

    Args:
        in_channels: Channels of each map, fine to coarse.
        num_classes: Number of classes K.
        channels: Width of the head.
        dropout: Probability that a channel is left out in training.
        index: Which map it reads; by default the coarsest.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        channels: int = 256,
        dropout: float = 0.1,
        index: int = -1,
    ) -> None:
        super().__init__()
        self.index = index
        self.conv = ConvNorm(in_channels[index], channels, 3)
        init_convolutions(self)
        self.classifier = PixelClassifier(channels, num_classes, dropout=dropout)

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B K H W"]:
        """Return logits at the stride of the map that it reads."""
        logits: Tensor = self.classifier(self.conv(features[self.index]).relu_())
        return logits
