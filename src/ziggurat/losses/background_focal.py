"""The focal loss of classes that are not there, without a copy of the logits.

Of the A * K terms of a dense head's classification all but one an object are background. Their loss
needs no targets, and its gradient follows from the logits alone: nothing else is kept for the
backward pass, which counts where A is two hundred thousand and K 1203.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

CPU_TURN = 1 << 20
"""Logits that are looked at together on a CPU, whose caches hold them."""
OTHER_TURN = 1 << 24
"""The same on other devices, which want fewer and larger pieces of work."""


def background_focal_loss(
    logits: Float[Tensor, "A K"], counted: Bool[Tensor, " A"], *, gamma: float
) -> Float[Tensor, ""]:
    """Sum -p^gamma * log(1 - p) over the anchors that count and all classes.

    Lin et al., arXiv:1708.02002, eq. 4 with y = 0; Li et al., arXiv:2006.04388, eq. 2 with a
    quality of 0.

    Args:
        logits: Class logits of A anchors for K foreground classes.
        counted: Anchors that count.
        gamma: Focusing power.
    """
    total: Tensor = _Background.apply(logits, counted, gamma)
    return total


class _Background(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, counted: Tensor, gamma: float) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(logits, counted)
        ctx.gamma = gamma
        rows = _rows(logits)
        total = logits.new_zeros(())
        for x, kept in zip(logits.split(rows), counted.split(rows), strict=True):
            terms = x.sigmoid().pow_(gamma).mul_(F.softplus(x))
            total += _sum_of(terms.sum(dim=1), kept)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        logits, counted = ctx.saved_tensors
        gamma = ctx.gamma
        rows = _rows(logits)
        result = torch.empty_like(logits)
        for x, kept, out in zip(
            logits.split(rows), counted.split(rows), result.split(rows), strict=True
        ):
            p = x.sigmoid()
            # d/dx p^gamma softplus(x) = p^gamma (gamma (1 - p) softplus(x) + p)
            slope = (1 - p).mul_(F.softplus(x)).mul_(gamma).add_(p).mul_(p.pow(gamma))
            out.copy_(slope * (kept[:, None] * grad))
        return result, None, None


def _rows(logits: Float[Tensor, "A K"]) -> int:
    """Return how many anchors are looked at together."""
    turn = CPU_TURN if logits.device.type == "cpu" else OTHER_TURN
    return max(1, turn // max(1, logits.shape[1]))


def _sum_of(values: Float[Tensor, " A"], counted: Bool[Tensor, " A"]) -> Float[Tensor, ""]:
    if values.device.type == "cpu":
        return values[counted].sum()
    # To pick them out, the processor would wait for the device to count them.
    return torch.where(counted, values, 0.0).sum()
