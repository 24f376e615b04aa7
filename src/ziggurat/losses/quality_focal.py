"""Generalized focal losses (Li et al., arXiv:2006.04388): soft classes, distributions of edges."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def quality_focal_loss(
    logits: Float[Tensor, " P"], qualities: Float[Tensor, " P"], *, beta: float
) -> Float[Tensor, ""]:
    """Sum -|y - p|^beta * ((1 - y) log(1 - p) + y log(p)) over logits of true classes.

    Eq. 2. The class that an anchor holds is not wanted to be 1 but as high as its box is good.

    Args:
        logits: Logit of the true class of each foreground anchor.
        qualities: IoU of its predicted box with the true one (y).
        beta: Focusing power.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, qualities, reduction="none")
    return ((qualities - logits.sigmoid()).abs() ** beta * cross_entropy).sum()


def distribution_focal_loss(
    logits: Float[Tensor, "P bins"], distances: Float[Tensor, " P"]
) -> Float[Tensor, " P"]:
    """Return -((y_(i+1) - y) log(S_i) + (y - y_i) log(S_(i+1))) of each edge.

    Eq. 6: cross entropy towards the two whole distances next to the true one.

    Args:
        logits: Of the distances 0, 1, 2, ... (S after the softmax).
        distances: True distances, from 0 to less than bins - 1.
    """
    left = distances.floor().long()
    share = distances - left
    log_probability = F.log_softmax(logits, dim=1)
    near = torch.stack([left, left + 1], dim=1)
    two = log_probability.gather(1, near)
    return -((1 - share) * two[:, 0] + share * two[:, 1])
