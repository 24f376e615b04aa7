"""Self-transformer of the Feature Pyramid Transformer (arXiv:2007.09451, section 3.2).

A map looks at itself: every pixel reads every other one, by a mixture of softmaxes.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.conv_norm import NormBuilder
from ziggurat.layers.pointwise import PointwiseConv
from ziggurat.layers.tokens import to_map, to_tokens
from ziggurat.ops.mixture_attention import attention_maps, mixture_attention

PARTS = 2
DROPOUT = 0.1


class PartPrior(nn.Module):
    """How much each part of a mixture counts in an image: softmax of W mean(x).

    Args:
        channels: Channels of the tokens.
        parts: Number of parts; a single one always counts 1 and has no weights.
    """

    def __init__(self, channels: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        if parts > 1:
            self.weight = nn.Parameter(torch.empty(parts, channels))
            nn.init.uniform_(self.weight, -1 / sqrt(parts), 1 / sqrt(parts))

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B P"]:
        """Return weights that sum to 1."""
        if self.parts == 1:
            return tokens.new_ones(len(tokens), 1)
        return F.linear(tokens.mean(dim=1), self.weight).softmax(dim=1)


class SelfTransformer(nn.Module):
    """Every pixel reads the whole map at half its resolution, and adds what it found to itself.

    Queries and keys are one projection; keys and values are made of the map pooled by 2. Of C
    channels, part p of P has the p-th block,

        s_p(i, j) = q_ip . k_jp / sqrt(C)
        prior     = softmax_p(W mean_i(q_i))
        out_i     = x_i + norm(proj(sum_j (sum_p prior_p softmax_j(s_p(i, j))) v_j))

    So it is in the published code. The paper has the mean of the keys in the prior, and names no
    divisor of the products.

    Args:
        channels: Channels of the map.
        norm: Builds the norm behind the last projection.
        parts: Softmaxes in the mixture; the published code has 2.
        dropout: Share of the attention's entries that training sets to 0.
        key_budget: Most keys that a pixel reads, or None for all. Beyond it the map is pooled
            further, which changes results.
        num_heads: Heads that attend each by itself; as published 1.
        pools: Whether keys and values are pooled.

    Raises:
        ValueError: If the channels cannot be cut into the parts and heads.
    """

    def __init__(
        self,
        channels: int,
        norm: NormBuilder,
        *,
        parts: int = PARTS,
        dropout: float = DROPOUT,
        key_budget: int | None = None,
        num_heads: int = 1,
        pools: bool = True,
    ) -> None:
        super().__init__()
        if channels % (parts * num_heads):
            raise ValueError(
                f"{channels} channels cannot be cut into {parts} parts of {num_heads} heads"
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.key_budget = key_budget
        self.pools = pools
        self.qk = PointwiseConv(channels, channels)
        self.v = PointwiseConv(channels, channels)
        self.prior = PartPrior(channels // num_heads, parts)
        self.proj = PointwiseConv(channels, channels, bias=False)
        self.norm = norm(channels)
        for projection in (self.qk, self.v):
            nn.init.normal_(projection.weight, std=1 / sqrt(channels))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the map with what each pixel read added to it."""
        q, k, v = self._project(x)
        scale = 1 / sqrt(q.shape[2])  # of all parts together, as the published code has it
        dropout = self.dropout if self.training else 0.0
        out = mixture_attention(q, k, v, self.prior(q), scale=scale, dropout=dropout)
        out = out.unflatten(0, (-1, self.num_heads)).transpose(1, 2).flatten(2)
        branch: Tensor = self.norm(self.proj(to_map(out, x.shape[2:])))
        return x + branch

    def attention(
        self, x: Float[Tensor, "B C H W"], row: int, column: int
    ) -> Float[Tensor, "B h w"]:
        """Return where the pixel looks: weights over the pooled map, mean of the heads."""
        q, k, _ = self._project(x)
        query = q[:, row * x.shape[3] + column, None]
        weights = attention_maps(query, k, self.prior(q), scale=1 / sqrt(q.shape[2]))
        keys = self._pool(x)
        return weights.unflatten(0, (-1, self.num_heads)).mean(1).unflatten(2, keys.shape[2:])[:, 0]

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self._pool(x)
        q, k, v = (
            to_tokens(projection(source)).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for projection, source in ((self.qk, x), (self.qk, pooled), (self.v, pooled))
        )
        return q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)

    def _pool(self, x: Tensor) -> Tensor:
        return pool_keys(x, self.key_budget, least=2 if self.pools else 1)


def pool_keys(
    x: Float[Tensor, "B C H W"], budget: int | None, *, least: int
) -> Float[Tensor, "B C h w"]:
    """Average a map to every `least`-th pixel, or to every 2, 4, 8... times that within a budget.

    Args:
        x: The map.
        budget: Most pixels that may be left, or None.
        least: Stride without a budget, 1 or 2.
    """
    stride = least
    while budget is not None and -(-x.shape[2] // stride) * -(-x.shape[3] // stride) > budget:
        if stride >= max(x.shape[2:]):
            break
        stride *= 2
    if stride == 1:
        return x
    # Windows overlap by a pixel and stand in the middle of their cell; beyond the border there is
    # nothing to count.
    return F.avg_pool2d(x, stride + 1, stride, stride // 2, count_include_pad=False)
