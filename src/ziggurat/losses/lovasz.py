"""Lovász-Softmax (Berman et al., CVPR 2018, arXiv:1705.08790): the IoU itself as a loss.

One minus the IoU is a function of the set of wrong pixels; its Lovász extension makes it a convex
function of how wrong every pixel is. Pixels are sorted by their error, and each is weighted by how
much the IoU would fall if it were wrong too.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ziggurat.ops.precision import to_float64


def lovasz_loss(
    probability: Float[Tensor, "B H W"],
    truth: Bool[Tensor, "B H W"],
    counted: Bool[Tensor, "B H W"],
) -> Float[Tensor, ""]:
    """Return the extension of 1 - IoU of one class over the pixels of a batch.

    Eq. 9: the scalar product of the sorted errors (eq. 8) with the slopes of algorithm 1.

    Args:
        probability: Probability of the class.
        truth: Where the class is.
        counted: Pixels that somebody labelled.
    """
    true = truth[counted].to(probability.dtype)
    errors, order = (true - probability[counted]).abs().sort(descending=True)
    return (errors * iou_slopes(true[order])).sum()


def iou_slopes(true: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """Return how much 1 - IoU grows when one more of the sorted pixels is wrong (algorithm 1).

    Args:
        true: 1 where a pixel is of the class, else 0, by falling error.
    """
    # Counted in 64 bits: sums of ones in 32 bits stop growing at 16 million.
    found = to_float64(true).cumsum(0)
    positions = torch.arange(1, len(true) + 1, dtype=torch.float64, device=found.device)
    total = found[-1:]
    loss = 1 - (total - found) / (total + positions - found)
    return torch.diff(loss, prepend=loss.new_zeros(1)).to(true)
