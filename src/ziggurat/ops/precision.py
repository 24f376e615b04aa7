"""Numbers wide enough for squares and long sums, whatever autocast is set to."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which operators keep the precision of what they are given.

    Args:
        device: Where they compute; the meta device has no autocast.
    """
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
