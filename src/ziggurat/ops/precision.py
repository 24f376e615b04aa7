"""Numbers wide enough for squares and long sums, whatever autocast is set to."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which operators keep the precision of what they are given.

    Args:
        device: Where they compute; the meta device has no autocast.
    """
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """Return a tensor in float32 if its numbers are narrower, else as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def to_float64(x: Tensor) -> Tensor:
    """Return a tensor in float64, on the CPU if its device has none, which is Apple's MPS."""
    return (x.cpu() if x.device.type == "mps" else x).double()
