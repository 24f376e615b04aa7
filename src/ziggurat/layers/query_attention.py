"""Attention between sets (Vaswani et al., arXiv:1706.03762), and what follows it in a layer.

Shapes: B images, Q queries, M keys, C channels, D = C / heads.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class QueryAttention(nn.Module):
    """Multi-head attention whose keys and values may come from different places.

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
        dropout: Share of attention weights dropped in training.

    Raises:
        ValueError: If `num_heads` does not divide `dim`.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got dim={dim}, num_heads={num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Float[Tensor, "B Q C"],
        key: Float[Tensor, "B M C"],
        value: Float[Tensor, "B M C"],
        valid: Bool[Tensor, "B M"] | None = None,
    ) -> Float[Tensor, "B Q C"]:
        """Mix the values of the valid keys, of all by default."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, w, b).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if valid is None else valid[:, None, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        mixed: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return mixed


class QueryFeedForward(nn.Module):
    """Two linear layers with a ReLU between them, and dropout after each.

    Args:
        dim: Number of channels C.
        hidden: Channels between the layers.
        dropout: Share of channels dropped in training.
    """

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """Return what is added to `x`."""
        y: Tensor = self.dropout(self.fc2(self.dropout(self.fc1(x).relu())))
        return y
