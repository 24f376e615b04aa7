"""Cross entropy of label maps: every pixel is an example, except those that nobody labelled.

The softmax of a pixel gives loss and gradient at once, so both are computed while its logits are
at hand, band by band: no map of the size of the image is kept for any class.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from ziggurat.losses.bands import BandResize, classes_last
from ziggurat.types import UNLABELLED, ImageSize, LabelMap

Normaliser = Literal["all", "labelled"]
"""What a sum over pixels is divided by."""


def pixel_cross_entropy(
    logits: Float[Tensor, "B K h w"],
    labels: Integer[Tensor, "B H W"],
    class_weights: Float[Tensor, " K"] | None = None,
    *,
    normaliser: Normaliser = "all",
    factors: Float[Tensor, "B H W"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean cross entropy of the pixels.

    A batch without labels has the loss zero.

    Args:
        logits: Class logits, resized bilinearly to the labels.
        labels: Class of each pixel, or 255 where it does not count.
        class_weights: Factor of each class; it does not change the division.
        normaliser: "all" divides by the number of all pixels, as in the published trainings:
            ignored ones add nothing and yet count. "labelled" divides by those that count, those
            with a factor above 0 where there are factors.
        factors: Factor of each pixel.
    """
    weights = (labels != UNLABELLED).to(torch.float32)
    if factors is not None:
        weights = weights * factors
    count: Tensor | int = labels.numel()
    if normaliser == "labelled":
        count = weights.count_nonzero().clamp(min=1)
    if class_weights is not None:
        known = labels.masked_fill(labels == UNLABELLED, 0)
        weights = weights * class_weights.to(weights)[known.long()]
    # Without autograd the gradient, half of the work, is left out.
    wants_gradient = torch.is_grad_enabled() and logits.requires_grad
    total: Tensor = _CrossEntropy.apply(logits, labels, weights, wants_gradient)
    return total / count


def pixel_losses(
    logits: Float[Tensor, "B K h w"], labels: Integer[Tensor, "B H W"]
) -> Float[Tensor, "B H W"]:
    """Return the cross entropy of each pixel, 0 where it is ignored, without gradients.

    Args:
        logits: Class logits, resized bilinearly to the labels.
        labels: Class of each pixel, or 255 where it does not count.
    """
    with torch.no_grad():
        weights = (labels != UNLABELLED).to(torch.float32)
        return _losses_and_gradient(logits, labels, weights, wants_gradient=False)[0]


class _CrossEntropy(torch.autograd.Function):
    """The weighted sum; the gradient is computed on the way, since it needs the same softmax."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        logits: Tensor,
        labels: Tensor,
        weights: Tensor,
        wants_gradient: bool,
    ) -> Tensor:
        losses, gradient = _losses_and_gradient(
            logits, labels, weights, wants_gradient=wants_gradient
        )
        if gradient is not None:
            ctx.save_for_backward(gradient)
            ctx.dtype = logits.dtype
        return losses.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        (gradient,) = ctx.saved_tensors
        return (gradient * grad).to(ctx.dtype), None, None, None


def _losses_and_gradient(
    logits: Tensor, labels: Tensor, weights: Tensor, *, wants_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the weighted loss of each pixel, and the gradient of their sum."""
    cells = classes_last(logits)
    num_classes = cells.shape[3]
    weights = weights.to(cells.dtype)
    losses = torch.empty_like(weights)
    gradient = torch.zeros_like(cells) if wants_gradient else None
    height, width = labels.shape[1:]
    resize = BandResize((cells.shape[1], cells.shape[2]), (height, width), cells)
    for index, x in enumerate(cells):
        for rows in resize.bands(num_classes):
            weight = weights[index, rows].reshape(-1, 1)
            label = labels[index, rows].reshape(-1, 1).long()
            label = label.masked_fill(label == UNLABELLED, 0)
            values = resize.enlarge(x, rows).reshape(-1, num_classes)
            # Step by step: on a CPU `log_softmax` takes several times as long for fewer than 16
            # classes, and no less for 150.
            values -= values.amax(dim=1, keepdim=True)
            own = values.gather(1, label)
            total = values.exp_().sum(dim=1, keepdim=True)
            losses[index, rows] = ((total.log() - own) * weight).view(-1, width)
            if gradient is None:
                continue
            # d/dz of -log p_y is p - 1_y.
            values = values.mul_(weight / total).scatter_add_(1, label, -weight)
            resize.add_adjoint(values.view(-1, width, num_classes), rows, gradient[index])
    if gradient is not None:
        gradient = gradient.permute(0, 3, 1, 2)
    return losses, gradient


def stack_labels(
    maps: Sequence[LabelMap], size: ImageSize | None = None
) -> Integer[Tensor, "B H W"]:
    """Put label maps into one tensor, with ignored pixels at the right and the bottom.

    Args:
        maps: Label maps, one an image, of the sizes of the images.
        size: Height and width of the tensor; by default those of the largest map.
    """
    height, width = size or (max(m.labels.shape[side] for m in maps) for side in (0, 1))
    stacked = maps[0].labels.new_full((len(maps), height, width), UNLABELLED)
    for row, found in zip(stacked, maps, strict=True):
        row[: found.labels.shape[0], : found.labels.shape[1]] = found.labels
    return stacked
