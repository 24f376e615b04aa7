"""Losses that see a whole map of one class: a sort of all its pixels, or the run of its contours.

Sums over bands do not serve them. So one class at a time is enlarged, its probabilities made, the
loss computed and followed back to the coarse logits, before the next class comes. In between only
the logarithm of the softmax's denominator, which all classes share, has the size of the image.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ziggurat.losses.bands import BandResize, classes_last
from ziggurat.types import ImageSize

ClassLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Probability, truth and what counts (B, H, W each) of a class to its loss."""


def mean_over_classes(
    logits: Float[Tensor, "B K h w"],
    truths: Sequence[tuple[int, Bool[Tensor, "B H W"]]],
    counted: Bool[Tensor, "B H W"],
    class_loss: ClassLoss,
    *,
    is_exclusive: bool,
) -> Float[Tensor, ""]:
    """Return the mean of a loss over some classes, or 0 where there are none.

    Args:
        logits: Class logits, resized bilinearly.
        truths: The classes, each with its true pixels.
        counted: Pixels that somebody labelled.
        class_loss: Loss of a class.
        is_exclusive: Whether classes exclude each other (softmax) or may overlap (sigmoid).
    """
    if not truths:
        return logits.float().sum() * 0
    wants_gradient = torch.is_grad_enabled() and logits.requires_grad
    total: Tensor = _ClassLosses.apply(
        logits, truths, counted, class_loss, is_exclusive, wants_gradient
    )
    return total / len(truths)


class _ClassLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        logits: Tensor,
        truths: Sequence[tuple[int, Tensor]],
        counted: Tensor,
        class_loss: ClassLoss,
        is_exclusive: bool,
        wants_gradient: bool,
    ) -> Tensor:
        size = (counted.shape[1], counted.shape[2])
        cells = classes_last(logits)
        shared = _log_denominators(cells, size) if is_exclusive else None
        shared_slope = cells.new_zeros(counted.shape)
        gradient = torch.zeros_like(cells)
        total = cells.new_zeros(())
        for label, truth in truths:
            with torch.set_grad_enabled(wants_gradient):
                cell = cells[..., label].detach().requires_grad_(wants_gradient)
                values = F.interpolate(
                    cell[:, None], size=size, mode="bilinear", align_corners=False
                )[:, 0]
                probability = values.sigmoid() if shared is None else (values - shared).exp()
                loss = class_loss(probability, truth, counted)
            total += loss.detach()
            if not wants_gradient or not loss.requires_grad:
                continue
            slopes = torch.autograd.grad(loss, (cell, probability))
            gradient[..., label] = slopes[0]
            shared_slope -= slopes[1] * probability.detach()
        if shared is not None and wants_gradient:
            _add_shared(gradient, cells, shared, shared_slope)
        ctx.save_for_backward(gradient.permute(0, 3, 1, 2))
        ctx.dtype = logits.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (gradient,) = ctx.saved_tensors
        return (gradient * grad).to(ctx.dtype), None, None, None, None, None


def _log_denominators(cells: Float[Tensor, "B h w K"], size: ImageSize) -> Float[Tensor, "B H W"]:
    """Return log(sum_k exp(z_k)) of every pixel."""
    resize = BandResize((cells.shape[1], cells.shape[2]), size, cells)
    found = cells.new_empty((cells.shape[0], *size))
    for x, out in zip(cells, found, strict=True):
        for rows in resize.bands(cells.shape[3]):
            out[rows] = resize.enlarge(x, rows).logsumexp(dim=2)
    return found


def _add_shared(gradient: Tensor, cells: Tensor, shared: Tensor, slope: Tensor) -> None:
    """Add what follows from the denominators: d log(sum_k exp(z_k)) / d z_k is the softmax."""
    resize = BandResize((cells.shape[1], cells.shape[2]), (slope.shape[1], slope.shape[2]), cells)
    for x, out, denominator, factor in zip(cells, gradient, shared, slope, strict=True):
        for rows in resize.bands(cells.shape[3]):
            softmax = resize.enlarge(x, rows).sub_(denominator[rows][..., None]).exp_()
            resize.add_adjoint(softmax.mul_(factor[rows][..., None]), rows, out)
