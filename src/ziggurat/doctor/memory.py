"""How much memory a training step takes beyond the model, measured while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

OPTIMIZER_COPIES = {"adamw": 2, "sgd": 1}
"""Values that the optimizer keeps for each weight."""


class StepMemory:
    """Bytes that a step took at one time.

    Attributes:
        bytes: On a GPU the measured peak; elsewhere what forward keeps for backward, which is
            most of it.
    """

    bytes: int = 0


@contextmanager
def step_memory(device: torch.device, model: nn.Module) -> Iterator[StepMemory]:
    """Measure a step that runs in the block.

    Args:
        device: Where it computes.
        model: What computes; its own values are there anyway and are not counted.

    Yields:
        What is known when the block ends.
    """
    memory = StepMemory()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield memory
        memory.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    own = {value.untyped_storage().data_ptr() for value in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # views share the memory that they look at
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, _give_back):
        yield memory
    memory.bytes = sum(kept.values())


def _give_back(tensor: Tensor) -> Tensor:
    return tensor
