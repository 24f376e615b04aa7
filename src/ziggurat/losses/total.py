"""What a run makes smaller: the sum of all losses that a model names."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor


def total_loss(losses: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
    """Add named losses up, which are weighted already.

    Args:
        losses: The losses by name.
    """
    return torch.stack(list(losses.values())).sum()
