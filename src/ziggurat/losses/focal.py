"""Focal loss: easy background, almost all of a dense detector's terms, hardly counts."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def sigmoid_focal_loss(
    logits: Float[Tensor, "A K"], targets: Float[Tensor, "A K"], *, alpha: float, gamma: float
) -> Float[Tensor, ""]:
    """Sum -alpha_t * (1 - p_t)^gamma * log(p_t) over anchors and classes.

    Lin et al., arXiv:1708.02002, eq. 5. A sum, not a mean: the caller divides by the number of
    foreground anchors, since almost all of the A * K terms are easy background near zero.

    Args:
        logits: Class logits of A anchors for K foreground classes.
        targets: 1.0 where the anchor is matched to the class, else 0.0.
        alpha: Weight of positives; negatives get 1 - alpha.
        gamma: Focusing power; 0 leaves alpha-weighted cross entropy.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = logits.sigmoid()
    p_t = p * targets + (1 - p) * (1 - targets)
    alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
    return (alpha_t * (1 - p_t) ** gamma * cross_entropy).sum()


def sparse_focal_loss(
    logits: Float[Tensor, " P"], *, alpha: float, gamma: float
) -> Float[Tensor, ""]:
    """Sum what true classes add to a loss that counted every class as background.

    Lin et al., arXiv:1708.02002, eq. 5 with y = 1 less the same with y = 0. Together with
    `background_focal_loss` times 1 - alpha it is `sigmoid_focal_loss`, without targets of A * K.

    Args:
        logits: Logit of the true class of each foreground anchor.
        alpha: Weight of positives; negatives get 1 - alpha.
        gamma: Focusing power.
    """
    p = logits.sigmoid()
    positive = alpha * (1 - p) ** gamma * F.softplus(-logits)
    negative = (1 - alpha) * p**gamma * F.softplus(logits)
    return (positive - negative).sum()
