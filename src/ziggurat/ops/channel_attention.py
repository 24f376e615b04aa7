"""Attention to a small window around each pixel, with a softmax for each channel.

The published code of the Feature Pyramid Transformer has it (github.com/dongzhang89/FPT). Places of
the window are taken one after the other, each a shifted view of the map: sums over the window are
as large as the map, and the windows themselves are never made. The gradient is written out, and
computes weights again (see `chunked_attention` for what autograd would do to the heap).

Shapes: B images, H x W pixels, C channels, K places of a window, M maps of values.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ziggurat.ops.precision import at_least_float32, without_autocast
from ziggurat.ops.window_attention import check_window


def channel_attention(
    q: Float[Tensor, "B C H W"],
    k: Float[Tensor, "B C H W"],
    v: Float[Tensor, "B M C H W"],
    *,
    places: Float[Tensor, "C K"],
    shares: Float[Tensor, "M K"],
    window: int,
) -> Float[Tensor, "B C H W"]:
    """Return sum_o softmax_o(q (k_o + places_o)) sum_m shares_mo v_mo, channel by channel.

    Beyond the border keys and values are 0 and take part.

    Args:
        q: Queries.
        k: Keys.
        v: Values, one or several maps of them.
        places: What is added to the keys at each place of the window.
        shares: How much each map of values counts at each place.
        window: Side of the window, odd; another is a `ZigguratError`.
    """
    check_window(window)
    with without_autocast(q.device):
        wide = [at_least_float32(x) for x in (q, k, v, places, shares)]
        wide[1:3] = (F.pad(x, (window // 2,) * 4) for x in wide[1:3])
        if q.is_meta or torch.compiler.is_exporting():
            out, _ = _attend(*wide)
        else:
            out = _attend_with_gradient(*wide)
        return out.to(q.dtype)


def _places(x: Tensor, like: Tensor) -> Iterator[Tensor]:
    """Go through the places of the window.

    Yields:
        The padded map as each pixel sees it there, a view.
    """
    height, width = like.shape[2:]
    for row in range(x.shape[-2] - height + 1):
        for column in range(x.shape[-1] - width + 1):
            yield x[..., row : row + height, column : column + width]


def _scores(q: Tensor, k: Tensor, places: Tensor) -> Iterator[Tensor]:
    """Go through the scores at each place.

    Yields:
        Scores, (B, C, H, W).
    """
    for keys, place in zip(_places(k, q), places.unbind(1), strict=True):
        yield (keys + place[:, None, None]).mul_(q)


def _mixtures(v: Tensor, shares: Tensor, like: Tensor) -> Iterator[Tensor]:
    """Go through the values at each place.

    Yields:
        Values mixed by their shares, (B, C, H, W).
    """
    for values, share in zip(_places(v, like), shares.unbind(1), strict=True):
        mixed = values[:, 0] * share[0]
        for m in range(1, len(share)):
            mixed.addcmul_(values[:, m], share[m])
        yield mixed


def _attend(
    q: Tensor, k: Tensor, v: Tensor, places: Tensor, shares: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what was found, and the logarithm of what the weights were divided by."""
    highest = torch.full_like(q, -torch.inf)
    for scores in _scores(q, k, places):
        highest = torch.maximum(highest, scores)
    total, out = torch.zeros_like(q), torch.zeros_like(q)
    for scores, values in zip(_scores(q, k, places), _mixtures(v, shares, q), strict=True):
        weights = scores.sub_(highest).exp_()
        total += weights
        out.addcmul_(weights, values)
    return out.div_(total), total.log_().add_(highest)


class _ChannelAttention(Function):
    """The same with its gradient."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch makes it
        *inputs: Tensor,
    ) -> Tensor:
        """Return what each pixel read, (B, C, H, W)."""
        out, log_total = _attend(*inputs)
        ctx.save_for_backward(*inputs, out, log_total)
        return out

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401 - torch makes it
        grad: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return the gradients of queries, keys, values, places and shares."""
        q, k, v, places, shares, out, log_total = ctx.saved_tensors
        gradients = [torch.zeros_like(x) for x in (q, k, v, places, shares)]
        grad_q, grad_k, grad_v, grad_places, grad_shares = gradients
        steps = zip(
            _scores(q, k, places),
            _mixtures(v, shares, q),
            *(_places(x, q) for x in (k, v, grad_k, grad_v)),
            strict=True,
        )
        for place, (scores, mixed, keys, values, keys_there, values_there) in enumerate(steps):
            upstream = scores.sub_(log_total).exp_().mul_(grad)
            for m, share in enumerate(shares[:, place]):
                values_there[:, m].addcmul_(upstream, share)
                grad_shares[m, place] = (upstream * values[:, m]).sum()
            # d softmax: w (g v - sum w g v), and the sum over the window is g out.
            grad_scores = upstream.mul_(mixed.sub_(out))
            grad_q.addcmul_(grad_scores, keys + places[:, place, None, None])
            grad_scores *= q
            keys_there += grad_scores
            grad_places[:, place] = grad_scores.sum(dim=(0, 2, 3))
        return tuple(gradients)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend_with_gradient(*inputs: Tensor) -> Tensor:
    """Run the function as it stands, outside of any graph."""
    out: Tensor = _ChannelAttention.apply(*inputs)
    return out
