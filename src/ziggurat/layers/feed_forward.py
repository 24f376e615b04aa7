"""The feed-forward block of transformers: two linear layers on each token."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.tokens import to_map, to_tokens


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, on every pixel of a map.

    Args:
        dim: Number of channels C.
        hidden_dim: Number of channels between the layers.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Expand and project back; the caller adds the residual."""
        return to_map(self.fc2(F.gelu(self.fc1(to_tokens(x)))), x.shape[2:])
