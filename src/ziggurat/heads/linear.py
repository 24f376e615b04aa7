"""The classifier's head: one vector for the whole image, and one linear layer.

The families differ in how the vector is taken, which is the head's `pool`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ziggurat.layers.tokens import to_tokens
from ziggurat.types import ClassScores


class LinearHead(nn.Module):
    """A pool and a linear layer.

    Args:
        pool: What the backbone's `forward_features` gives, to vectors (B, C).
        in_channels: Length C of the vectors.
        num_classes: Number of classes K.
        label_smoothing: Share of the target that is spread over all classes; applies to integer
            labels (Szegedy et al., arXiv:1512.00567, section 7).
    """

    def __init__(
        self,
        pool: nn.Module,
        in_channels: int,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.pool = pool
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.trunc_normal_(self.fc.weight, std=0.02, a=-2.0, b=2.0)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: Float[Tensor, "B ..."]) -> Float[Tensor, "B K"]:
        """Return class logits."""
        logits: Tensor = self.fc(self.pool(features))
        return logits

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


class AveragePool(nn.Module):
    """The mean over a map: PVT v2, P2T, the two larger GPViT."""

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
        """Return one vector an image."""
        return features.mean(dim=(2, 3))


class ClassTokenPool(nn.Module):
    """The first of all tokens, which has gathered the image on its way: PVT v1."""

    def forward(self, features: Float[Tensor, "B N C"]) -> Float[Tensor, "B C"]:
        """Return one vector an image."""
        return features[:, 0]


class NormalizedAveragePool(nn.Module):
    """The mean over a map, batch-normalised: TopFormer.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
        """Return one vector an image."""
        vectors: Tensor = self.bn(features.mean(dim=(2, 3)))
        return vectors


class GroupTokenPool(nn.Module):
    """A learned token attends to the whole map: the two smaller GPViT.

    Keys are projected; the query and the values are not (GPViT, official `GroupNeck`).

    Args:
        channels: Channels C of the map.
        num_heads: Attention heads.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.group_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.norm_query = nn.LayerNorm(channels)
        self.k = nn.Linear(channels, channels, bias=False)
        nn.init.trunc_normal_(self.k.weight, std=0.02, a=-2.0, b=2.0)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
        """Return one vector an image."""
        tokens = to_tokens(features)
        q = self.norm_query(self.group_token).expand(tokens.shape[0], -1, -1)
        vectors = F.scaled_dot_product_attention(
            self._split_heads(q), self._split_heads(self.k(tokens)), self._split_heads(tokens)
        )
        return vectors.transpose(1, 2).flatten(1)

    def _split_heads(self, t: Float[Tensor, "B N C"]) -> Float[Tensor, "B heads N D"]:
        return t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
