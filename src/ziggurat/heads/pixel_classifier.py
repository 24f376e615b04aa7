"""What every segmentation head ends with: dropout of whole channels and a 1x1 convolution."""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.resize import resize_like


class PixelClassifier(nn.Module):
    """Class logits of every cell of a map.

    Args:
        in_channels: Channels of the map.
        num_classes: Number of classes K.
        dropout: Probability that a channel of an image is left out in training.
    """

    def __init__(self, in_channels: int, num_classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.logits = nn.Conv2d(in_channels, num_classes, 1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        """Return the logits."""
        logits: Tensor = self.logits(self.dropout(x))
        return logits


def sum_at_first_size(maps: Iterable[Float[Tensor, "B C _ _"]]) -> Float[Tensor, "B C H W"]:
    """Return the sum of maps, all resized to the first; they are taken one after the other.

    Args:
        maps: At least one map, all of C channels.
    """
    remaining = iter(maps)
    total = next(remaining)
    for x in remaining:
        total = total + resize_like(x, total)
    return total
