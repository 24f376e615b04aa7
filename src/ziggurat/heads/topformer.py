"""TopFormer's segmentation head (Zhang et al., CVPR 2022, arXiv:2204.05525, section 3.3).

The injected maps of all scales have one width; their sum at the finest size is nearly the answer.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.heads.pixel_classifier import PixelClassifier, sum_at_first_size
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.initialization import init_convolutions


class TopFormerHead(nn.Module):
    """Add the maps at the finest size, mix, classify.

    Args:
        channels: Channels of every map.
        num_classes: Number of classes K.
        is_depthwise: Whether the mixing treats every channel by itself, as in the smallest variant.
        dropout: Probability that a channel is left out in training.
    """

    def __init__(
        self, channels: int, num_classes: int, *, is_depthwise: bool, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.mixing = ConvNorm(channels, channels, 1, groups=channels if is_depthwise else 1)
        init_convolutions(self)
        self.classifier = PixelClassifier(channels, num_classes, dropout=dropout)

    def forward(self, features: Sequence[Float[Tensor, "B C _ _"]]) -> Float[Tensor, "B K H W"]:
        """Return logits at the stride of the finest map."""
        logits: Tensor = self.classifier(self.mixing(sum_at_first_size(features)).relu_())
        return logits
