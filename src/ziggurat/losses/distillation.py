"""What a classifier learns from another one (Hinton et al., arXiv:1503.02531; DeiT).

Shapes: B images, K classes.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def soft_distillation(
    logits: Float[Tensor, "B K"], teacher: Float[Tensor, "B K"], *, temperature: float
) -> Float[Tensor, ""]:
    """Return T^2 times the divergence KL(teacher || student) of softmax(logits / T).

    Touvron et al., arXiv:2012.12877, eq. 2: T^2 undoes that gradients shrink with the temperature
    T. A mean over images and classes, as in the code of DeiT and PVT; the equation has one over
    images.

    Args:
        logits: What the student says.
        teacher: What the teacher says.
        temperature: The higher, the more the less likely classes count.
    """
    divergence = F.kl_div(
        F.log_softmax(logits.float() / temperature, dim=1),
        F.log_softmax(teacher.float() / temperature, dim=1),
        reduction="sum",
        log_target=True,
    )
    return divergence * temperature**2 / logits.numel()


def hard_distillation(
    logits: Float[Tensor, "B K"], teacher: Float[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """Return the cross entropy with the class that the teacher finds most likely.

    Touvron et al., arXiv:2012.12877, eq. 3.

    Args:
        logits: What the student says.
        teacher: What the teacher says.
    """
    return F.cross_entropy(logits.float(), teacher.argmax(dim=1))
