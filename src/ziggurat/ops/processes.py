"""Numbers that all processes of a training agree on."""

import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def mean_over_processes(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return the mean of numbers over all processes; without other processes, the numbers.

    Normalisers of losses are averaged so that a batch weighs the same however it is shared out.

    Args:
        value: Numbers without gradient.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
