"""Attention by a mixture of softmaxes that never holds an N x N map.

Yang et al., arXiv:1711.03953, as the Feature Pyramid Transformer uses it (arXiv:2007.09451):
queries and keys are cut into P parts, each part has a softmax of its own over the keys, and a prior
says how much each part counts,

    output_i = sum_j ( sum_p prior_p softmax_j(s_p(q_i, k_j)) ) v_j.

On the finest map of an 800 x 1344 image the maps in these parentheses would take 22 GB. A softmax
needs one row at a time only, so that queries are taken a few hundred at a time: the result is the
same, and the memory grows with the keys and no longer with queries times keys. An accelerator has
kernels that do the same for attention of many equal heads, which the mixture can be written as.

Shapes: B images, N queries, M keys, C channels of queries and keys, V of values, P parts.
"""

from math import gcd

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ziggurat.ops.chunked_attention import ChunkedAttention
from ziggurat.ops.precision import at_least_float32, without_autocast

SCORES_AT_A_TIME = 2**22
"""Scores of one part that are held at once, 16 MiB: larger chunks are no faster on a CPU."""
FEWEST_QUERIES = 64


def mixture_attention(
    q: Float[Tensor, "B N C"],
    k: Float[Tensor, "B M C"],
    v: Float[Tensor, "B M V"],
    prior: Float[Tensor, "B P"],
    *,
    scale: float,
    key_bias: Float[Tensor, "B P M"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B N V"]:
    """Return the mixture of P attentions, s_p(q, k) = scale * q_p . k_p + key_bias_p.

    Args:
        q: Queries; part p is the p-th of P equal blocks of channels.
        k: Keys, cut alike.
        v: Values, one set for all parts.
        prior: Weights of the parts, which sum to 1.
        scale: Factor of the products.
        key_bias: What each key adds to its scores, by part.
        dropout: Share of the entries of each map that are set to 0.

    Raises:
        ValueError: If the channels of the queries cannot be cut into so many equal parts.
    """
    parts = prior.shape[1]
    if q.shape[2] % parts:
        raise ValueError(f"{q.shape[2]} channels cannot be cut into {parts} equal parts")
    # A CPU has no fused kernel with dropout: it would store the maps.
    is_traced = torch.compiler.is_exporting() or (torch.compiler.is_compiling() and not dropout)
    if q.is_cuda or is_traced:
        return _by_fused_heads(q, k, v, prior, scale, key_bias, dropout)
    if q.is_meta:
        maps = attention_maps(q, k, prior, scale=scale, key_bias=key_bias, dropout=dropout)
        return maps.to(v.dtype) @ v
    rows = max(FEWEST_QUERIES, SCORES_AT_A_TIME // (q.shape[0] * k.shape[1]))
    # Sums over thousands of keys in half precision would lose what training needs.
    wide = [None if x is None else at_least_float32(x) for x in (q, k, v, prior, key_bias)]
    with without_autocast(q.device):
        return _by_chunks(*wide, scale, dropout, min(rows, q.shape[1])).to(v.dtype)


def distance_attention(
    q: Float[Tensor, "B N C"],
    k: Float[Tensor, "B M C"],
    v: Float[Tensor, "B M V"],
    prior: Float[Tensor, "B P"],
) -> Float[Tensor, "B N V"]:
    """Return the mixture of attentions by nearness, s_p(q, k) = -|q_p - k_p|^2.

    |q - k|^2 = |q|^2 - 2 q . k + |k|^2, where |q|^2 is the same for all keys and leaves the
    softmax as it is: what remains is a product and a number for each key.

    Args:
        q: Queries; part p is the p-th of P equal blocks of channels.
        k: Keys, cut alike.
        v: Values, one set for all parts.
        prior: Weights of the parts, which sum to 1.
    """
    with without_autocast(q.device):  # squares overflow half precision
        q, k, v, prior = (at_least_float32(x) for x in (q, k, v, prior))
        q, k, key_bias = _centred(q, k, prior.shape[1])
        return mixture_attention(q, k, v, prior, scale=2.0, key_bias=key_bias)


def distance_maps(
    q: Float[Tensor, "B N C"], k: Float[Tensor, "B M C"], prior: Float[Tensor, "B P"]
) -> Float[Tensor, "B N M"]:
    """Return the mixed map of `distance_attention`, rows that sum to 1: for a few queries."""
    with without_autocast(q.device):
        q, k, prior = (at_least_float32(x) for x in (q, k, prior))
        q, k, key_bias = _centred(q, k, prior.shape[1])
        return attention_maps(q, k, prior, scale=2.0, key_bias=key_bias)


def _centred(q: Tensor, k: Tensor, parts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries and keys around the mean key, and what each key adds to its scores, -|k|^2.

    Distances do not change when both move alike, and smaller numbers lose fewer digits.
    """
    centre = k.mean(dim=1, keepdim=True)
    q, k = q - centre, k - centre
    squares = k.unflatten(2, (parts, -1)).square().sum(dim=3)
    return q, k, -squares.transpose(1, 2)


def attention_maps(
    q: Float[Tensor, "B N C"],
    k: Float[Tensor, "B M C"],
    prior: Float[Tensor, "B P"],
    *,
    scale: float,
    key_bias: Float[Tensor, "B P M"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B N M"]:
    """Return the mixed map itself, rows that sum to 1: for a few queries, to look at.

    Arguments are those of `mixture_attention`.
    """
    mixed = None
    pairs = zip(q.chunk(prior.shape[1], dim=2), k.chunk(prior.shape[1], dim=2), strict=True)
    for part, (q_part, k_part) in enumerate(pairs):
        scores = (q_part * scale) @ k_part.mT
        if key_bias is not None:
            scores = scores + key_bias[:, part, None]
        weights = scores.softmax(dim=2)
        weights = F.dropout(weights, dropout) * prior[:, part, None, None]
        mixed = weights if mixed is None else mixed + weights
    assert mixed is not None
    return mixed


def head_widths(channels: int, values: int, parts: int, *, has_bias: bool) -> tuple[int, int]:
    """Return the channels of a block of values, and those of a head, in fused attention.

    There are `parts * values / width` heads.

    Args:
        channels: Channels of queries and keys, of all parts together.
        values: Channels of the values.
        parts: Softmaxes in the mixture.
        has_bias: Whether keys add something to their scores.
    """
    width = gcd(values, channels // parts)
    widest = max(width, channels // parts + has_bias)
    return width, -(-widest // 8) * 8  # kernels count channels in eights


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _by_chunks(*arguments: Tensor | float | int | None) -> Tensor:
    """Run the function as it stands, outside of any graph."""
    out: Tensor = ChunkedAttention.apply(*arguments)
    return out


def _by_fused_heads(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prior: Tensor,
    scale: float,
    key_bias: Tensor | None,
    dropout: float,
) -> Tensor:
    """Compute it as attention of many heads, for which an accelerator has a fused kernel.

    The kernels want heads whose values are as wide as their keys, and no bias: values are cut into
    blocks of that width, each of which meets every part, and a bias is one more channel.
    """
    parts = prior.shape[1]
    q_heads = q.unflatten(2, (parts, -1)).transpose(1, 2) * scale
    k_heads = k.unflatten(2, (parts, -1)).transpose(1, 2)
    if key_bias is not None:
        q_heads = torch.cat((q_heads, torch.ones_like(q_heads[..., :1])), dim=3)
        k_heads = torch.cat((k_heads, key_bias[..., None].to(k.dtype)), dim=3)
    width, widest = head_widths(q.shape[2], v.shape[2], parts, has_bias=key_bias is not None)
    v_heads = v.unflatten(2, (-1, width)).transpose(1, 2)
    blocks = v_heads.shape[1]
    q_heads, k_heads, v_heads = (
        F.pad(heads, (0, widest - heads.shape[3])) for heads in (q_heads, k_heads, v_heads)
    )
    out = F.scaled_dot_product_attention(
        q_heads.repeat_interleave(blocks, dim=1),
        k_heads.repeat_interleave(blocks, dim=1),
        v_heads.repeat(1, parts, 1, 1),
        dropout_p=dropout,
        scale=1.0,
    )
    mixed = (out.unflatten(1, (parts, blocks)) * prior[:, :, None, None, None]).sum(dim=1)
    return mixed[..., :width].transpose(1, 2).flatten(2)
