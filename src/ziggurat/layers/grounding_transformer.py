"""Grounding transformers of the Feature Pyramid Transformer (arXiv:2007.09451, section 3.3).

Top-down: a fine map looks at a coarse one, so that concepts are grounded in pixels. What stands
here returns what was found, which the pyramid concatenates with the map itself.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.errors import ZigguratError
from ziggurat.layers.conv_norm import NormBuilder
from ziggurat.layers.local_attention import LocalAttention
from ziggurat.layers.pointwise import PointwiseConv
from ziggurat.layers.resize import resize_like
from ziggurat.layers.self_transformer import PartPrior, pool_keys
from ziggurat.layers.tokens import to_map, to_tokens
from ziggurat.ops.mixture_attention import (
    distance_attention,
    distance_maps,
    mixture_attention,
)
from ziggurat.ops.window_attention import check_window, window_attention

Similarity = Literal["dot", "embedded", "gaussian", "concatenate"]
PARTS = 4


class GroundingTransformer(nn.Module):
    """The published code's: a non-local block across two maps, by dot products.

    The products are divided by the number of coarse pixels and no softmax is taken, so that
    (q k^T) v = q (k^T v): the cost is linear in both maps, and nothing of size N x N exists.

    Args:
        channels: Channels of both maps.
        norm: Builds the norm behind the last projection, or None for none.
        similarity: How pixels are compared: "dot", "embedded" (softmax of dot products), "gaussian"
            (the same of the maps themselves), or "concatenate" (ReLU of a projection of both). The
            published code has all four, and its pyramids use the first.
    """

    def __init__(
        self, channels: int, norm: NormBuilder | None, *, similarity: Similarity = "dot"
    ) -> None:
        super().__init__()
        width = channels // 2
        self.similarity = similarity
        self.v = PointwiseConv(channels, width)
        if similarity != "gaussian":
            self.q = PointwiseConv(channels, width)
            self.k = PointwiseConv(channels, width)
        if similarity == "concatenate":
            self.compare = nn.Linear(2 * width, 1)
        self.proj = PointwiseConv(width, channels)
        self.norm = nn.Identity() if norm is None else norm(channels)
        # Silent at first; beside the map itself, to which it is concatenated, that does no harm.
        for parameter in (self.norm if norm is not None else self.proj).parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, fine: Float[Tensor, "B C H W"], coarse: Float[Tensor, "B C h w"]
    ) -> Float[Tensor, "B C H W"]:
        """Return what each fine pixel found on the coarse map."""
        v = to_tokens(self.v(coarse))
        if self.similarity == "gaussian":
            q, k = to_tokens(fine), to_tokens(coarse)
        else:
            q, k = to_tokens(self.q(fine)), to_tokens(self.k(coarse))
        if self.similarity == "dot":
            # In half precision a sum over all pixels overflows, and keys over all vanish.
            root = k.shape[1] ** 0.5
            out = q @ ((k / root).mT @ (v / root))
        elif self.similarity == "concatenate":
            w_q, w_k = self.compare.weight.split(q.shape[2], dim=1)
            out = mean_of_positive_sums(F.linear(q, w_q, self.compare.bias), F.linear(k, w_k), v)
        else:
            out = mixture_attention(q, k, v, q.new_ones(len(q), 1), scale=1.0)
        grounded: Tensor = self.norm(self.proj(to_map(out, fine.shape[2:])))
        return grounded

    def attention(
        self,
        fine: Float[Tensor, "B C H W"],
        coarse: Float[Tensor, "B C h w"],
        row: int,
        column: int,
    ) -> Float[Tensor, "B h w"]:
        """Return how much the fine pixel reads of each coarse one; products may be negative.

        Raises:
            ValueError: If pixels are not compared by dot products.
        """
        if self.similarity != "dot":
            raise ValueError(f"this is for dot products, got {self.similarity!r}")
        q = self.q(fine)[:, :, row, column, None]
        keys = self.k(coarse)
        weights: Tensor = (q.mT @ keys.flatten(2) / keys[0, 0].numel()).unflatten(2, keys.shape[2:])
        return weights[:, 0]


class EuclideanGrounding(nn.Module):
    """The paper's: pixels are compared by their distance, -|q - k|^2, in a mixture of softmaxes.

    Args:
        channels: Channels of both maps.
        parts: Softmaxes in the mixture; by default 4, as in the paper, and one within a window,
            which has no other.
        key_budget: Most coarse pixels that a fine one reads, or None for all. Beyond it the coarse
            map is pooled, which changes results.
        window: Side of the square on the coarse map that a fine pixel reads, around its own place:
            the locality-constrained transformer that the paper has for segmentation. None for the
            whole map.

    Raises:
        ZigguratError: If the channels cannot be cut into the parts, or there is a window beside
            several parts or a budget.
    """

    def __init__(
        self,
        channels: int,
        *,
        parts: int | None = None,
        key_budget: int | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__()
        if window is not None:
            check_window(window)
            if key_budget is not None or parts not in (None, 1):
                raise ZigguratError(
                    "a window has one softmax over all of its keys, got "
                    f"parts={parts} and key_budget={key_budget} beside window={window}; leave out "
                    "either"
                )
            parts = 1
        parts = PARTS if parts is None else parts
        if channels % parts:
            raise ZigguratError(f"{channels} channels cannot be cut into {parts} parts")
        self.key_budget = key_budget
        self.window = window
        self.q = PointwiseConv(channels, channels)
        self.k = PointwiseConv(channels, channels)
        self.v = PointwiseConv(channels, channels)
        self.prior = PartPrior(channels, parts)

    def forward(
        self, fine: Float[Tensor, "B C H W"], coarse: Float[Tensor, "B C h w"]
    ) -> Float[Tensor, "B C H W"]:
        """Return what each fine pixel found on the coarse map."""
        if self.window is not None:
            return window_attention(
                self.q(fine), self.k(coarse), self.v(coarse), window=self.window
            )
        coarse = pool_keys(coarse, self.key_budget, least=1)
        q, k, v = (to_tokens(x) for x in (self.q(fine), self.k(coarse), self.v(coarse)))
        out = distance_attention(q, k, v, self.prior(k))
        return to_map(out.to(fine.dtype), fine.shape[2:])

    def attention(
        self,
        fine: Float[Tensor, "B C H W"],
        coarse: Float[Tensor, "B C h w"],
        row: int,
        column: int,
    ) -> Float[Tensor, "B h w"]:
        """Return where the fine pixel looks on the coarse map, pooled where keys are limited."""
        q = self.q(fine)[:, :, row, column, None].mT
        if self.window is None:
            keys = self.k(pool_keys(coarse, self.key_budget, least=1))
            seen = keys
        else:
            keys = self.k(coarse)
            reach = self.window // 2
            middle = (row * keys.shape[2] // fine.shape[2], column * keys.shape[3] // fine.shape[3])
            where = tuple(slice(max(0, m - reach), m + reach + 1) for m in middle)
            seen = keys[:, :, *where]
        tokens = to_tokens(seen)
        found = distance_maps(q, tokens, self.prior(tokens)).unflatten(2, seen.shape[2:])[:, 0]
        if self.window is None:
            return found
        weights = found.new_zeros(len(keys), *keys.shape[2:])
        weights[:, *where] = found
        return weights


class LocalGrounding(nn.Module):
    """The published code's locality-constrained one, which reads both maps side by side.

    Its pyramid never used it; how the coarse map comes to the size of the fine one is our choice.

    Args:
        channels: Channels of both maps.
        window: Side of the square that a fine pixel reads, around its own place.
    """

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.local = LocalAttention(2 * channels, channels, window)

    def forward(
        self, fine: Float[Tensor, "B C H W"], coarse: Float[Tensor, "B C h w"]
    ) -> Float[Tensor, "B C H W"]:
        """Return what each fine pixel found around its place."""
        found: Tensor = self.local(_side_by_side(fine, coarse))
        return found

    def attention(
        self,
        fine: Float[Tensor, "B C H W"],
        coarse: Float[Tensor, "B C h w"],
        row: int,
        column: int,
    ) -> Float[Tensor, "B H W"]:
        """Return where the fine pixel looks, as the mean of its channels."""
        return self.local.attention(_side_by_side(fine, coarse), row, column)


def _side_by_side(fine: Tensor, coarse: Tensor) -> Tensor:
    return torch.cat((fine, resize_like(coarse, fine)), dim=1)


def mean_of_positive_sums(
    a: Float[Tensor, "B N 1"], b: Float[Tensor, "B M 1"], v: Float[Tensor, "B M V"]
) -> Float[Tensor, "B N V"]:
    """Return mean_j relu(a_i + b_j) v_j without any of the N x M sums.

    The sum with a_i is positive for all b_j > -a_i. With the b in falling order these are the first
    few, and the sums over the first few are made once for all: sum b_j v_j + a_i sum v_j.

    Args:
        a: Number of each query.
        b: Number of each key.
        v: Values.
    """
    falling, order = b.double().sort(dim=1, descending=True)
    sorted_v = v.double().gather(1, order.expand_as(v))
    sums = F.pad(sorted_v.cumsum(dim=1), (0, 0, 1, 0))
    products = F.pad((falling * sorted_v).cumsum(dim=1), (0, 0, 1, 0))
    exact = a.double()
    count = torch.searchsorted(-falling[..., 0], exact[..., 0].contiguous())
    index = count[..., None].expand(-1, -1, v.shape[2])
    total = products.gather(1, index) + exact * sums.gather(1, index)
    return (total / b.shape[1]).to(v.dtype)
