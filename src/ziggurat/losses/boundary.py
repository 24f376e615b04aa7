"""A loss of contours (Bokhovkin and Burnaev, arXiv:1905.07852): the boundary F1 score, made soft.

Cross entropy counts pixels, and pixels at a contour are few. Here contours of probabilities are
compared with true ones: how much of each lies near the other. Pooling makes both, so gradients
pass and nothing has to leave the device, as a distance transform would.
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

CONTOUR_KERNEL = 3
"""Side of the square in which a contour is found (theta_0), in pixels."""


def boundary_loss(
    probability: Float[Tensor, "B H W"],
    truth: Bool[Tensor, "B H W"],
    counted: Bool[Tensor, "B H W"],
    *,
    width: int,
) -> Float[Tensor, ""]:
    """Return 1 - 2 P R / (P + R) of the contours of one class over a batch (eqs. 5 to 9).

    Differs from the paper: one pixel is added to both sides of either fraction, which bounds
    gradients where a map has no contour yet, and contours next to unlabelled pixels do not count.

    Args:
        probability: Probability of the class.
        truth: Where the class is.
        counted: Pixels that somebody labelled.
        width: Odd side of the square in which contours count as near each other (theta), in pixels.
    """
    unknown = (~counted).to(probability.dtype)
    inside = 1 - _widen(unknown, CONTOUR_KERNEL)
    found = _contours(probability) * inside
    true = _contours(truth.to(probability.dtype)) * inside
    precision = ((found * _widen(true, width)).sum() + 1) / (found.sum() + 1)
    recall = ((true * _widen(found, width)).sum() + 1) / (true.sum() + 1)
    return 1 - 2 * precision * recall / (precision + recall)


def _contours(x: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """Return what of a map has less beside it: its inner edge."""
    return _widen(1 - x, CONTOUR_KERNEL) - (1 - x)


def _widen(x: Float[Tensor, "B H W"], side: int) -> Float[Tensor, "B H W"]:
    return F.max_pool2d(x, side, stride=1, padding=side // 2)
