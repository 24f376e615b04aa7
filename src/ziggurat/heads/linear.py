"""The classifier's head: average over the map, one linear layer."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ziggurat.types import ClassScores


class LinearHead(nn.Module):
    """Global average pooling and a linear layer.

    Args:
        in_channels: Channels of the coarsest map.
        num_classes: Number of classes K.
        label_smoothing: Share of the target that is spread over all classes; applies to integer
            labels (Szegedy et al., arXiv:1512.00567, section 7).
    """

    def __init__(self, in_channels: int, num_classes: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.trunc_normal_(self.fc.weight, std=0.02, a=-2.0, b=2.0)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B K"]:
        """Return class logits from the coarsest map."""
        return self.fc(features[-1].mean(dim=(2, 3)))

    def loss(
        self, raw: Float[Tensor, "B K"], targets: Int[Tensor, " B"] | Float[Tensor, "B K"]
    ) -> dict[str, Tensor]:
        """Return the cross entropy, a mean over images.

        Args:
            raw: Logits.
            targets: Labels, or a distribution over the classes for each image (mixup).
        """
        # A distribution is smoothed where it is mixed; smoothing it here would do it twice.
        smoothing = 0.0 if targets.is_floating_point() else self.label_smoothing
        return {"classification": F.cross_entropy(raw.float(), targets, label_smoothing=smoothing)}

    def decode(self, raw: Float[Tensor, "B K"]) -> list[ClassScores]:
        """Return the softmax of each image."""
        return [ClassScores(scores) for scores in raw.float().softmax(dim=1)]
