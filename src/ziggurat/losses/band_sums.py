"""Sums over pixels of anything that a pixel's logits say, without keeping a map of any class.

What a loss needs of all pixels is often a few sums a class, as overlap and area are for Dice. They
are added up over bands of rows; for the gradient every band is computed a second time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.losses.bands import BandResize, classes_last
from ziggurat.types import ImageSize

BandSum = Callable[..., Tensor]
"""Logits of a band (R, W, K), and that band of each map (R, W, ...), to sums of any shape."""


def band_sums(
    logits: Float[Tensor, "B K h w"],
    size: ImageSize,
    band_sum: BandSum,
    maps: Sequence[Tensor],
) -> Tensor:
    """Return what `band_sum` gives, added up over all bands of all images.

    Args:
        logits: Class logits, resized bilinearly.
        size: Height and width of the pixels.
        band_sum: Computes the sums of a band, differentiably.
        maps: What it needs of the pixels besides their logits, (B, H, W, ...) each.
    """
    sums: Tensor = _BandSums.apply(logits, size, band_sum, *maps)
    return sums


class _BandSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        logits: Tensor,
        size: ImageSize,
        band_sum: BandSum,
        *maps: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(logits, *maps)
        ctx.size, ctx.band_sum = size, band_sum
        cells = classes_last(logits)
        resize = BandResize((cells.shape[1], cells.shape[2]), size, cells)
        total = None
        for index, x in enumerate(cells):
            for rows in resize.bands(cells.shape[3]):
                sums = band_sum(resize.enlarge(x, rows), *(m[index, rows] for m in maps))
                total = sums if total is None else total + sums
        assert total is not None  # a batch has an image, an image a row
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        logits, *maps = ctx.saved_tensors
        cells = classes_last(logits)
        gradient = torch.zeros_like(cells)
        resize = BandResize((cells.shape[1], cells.shape[2]), ctx.size, cells)
        for index, x in enumerate(cells):
            for rows in resize.bands(cells.shape[3]):
                with torch.enable_grad():
                    values = resize.enlarge(x, rows).detach().requires_grad_()
                    sums = ctx.band_sum(values, *(m[index, rows] for m in maps))
                (slope,) = torch.autograd.grad(sums, values, grad)
                resize.add_adjoint(slope, rows, gradient[index])
        return gradient.permute(0, 3, 1, 2).to(logits.dtype), None, None, *(None for _ in maps)
