"""Trade time for memory: forget what a block computed, and compute it again for the gradient."""

from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_block(block: nn.Module, *inputs: object, use_checkpointing: bool) -> Tensor:
    """Run a block; with checkpointing its inner tensors are not kept for the backward pass.

    Chen et al., arXiv:1604.06174. Random numbers are drawn alike both times, so that stochastic
    depth keeps its choice, and batch norms count each batch once.

    Args:
        block: Takes the inputs and returns one tensor.
        inputs: What the block takes.
        use_checkpointing: Whether to forget; without gradients there is nothing to keep anyway.
    """
    if not use_checkpointing or not torch.is_grad_enabled():
        return cast(Tensor, block(*inputs))
    # Where nothing gathers statistics the plain call is made, which graphs can be traced through.
    if not has_statistics(block):
        return cast(Tensor, checkpoint(block, *inputs, use_reentrant=False))
    contexts = (nullcontext(), _WithoutStatistics(block))
    again = checkpoint(block, *inputs, use_reentrant=False, context_fn=lambda: contexts)
    return cast(Tensor, again)


def has_statistics(block: nn.Module) -> bool:
    """Tell whether a block has batch norms; `torch.compile` cannot run it again for its gradients.

    Args:
        block: The block, or what has blocks.
    """
    return any(isinstance(module, _BatchNorm) for module in block.modules())


def checkpointed_parts(model: nn.Module) -> list[nn.Module]:
    """Return every part of a model that can forget what is in its blocks.

    Args:
        model: Has parts with the attribute `use_checkpointing`; it may be one itself.
    """
    return [part for part in model.modules() if hasattr(part, "use_checkpointing")]


def set_checkpointing(model: nn.Module, enable: bool) -> None:
    """Let every part that runs blocks forget what is in them, or keep it.

    Args:
        model: Has parts with the attribute `use_checkpointing`; it may be one itself.
        enable: Whether to forget.

    Raises:
        ValueError: If no part has it.
    """
    parts = checkpointed_parts(model)
    if not parts:
        raise ValueError(f"{type(model).__name__} has no part that can run its blocks again")
    for part in parts:
        part.use_checkpointing = enable  # type: ignore[assignment]


class _WithoutStatistics(AbstractContextManager[None]):
    """Lets batch norms normalise by the batch, as before, and leave their statistics as they are.

    It is entered once for every backward pass through a block.

    Args:
        block: Has the batch norms.
    """

    def __init__(self, block: nn.Module) -> None:
        self.norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]

    def __enter__(self) -> None:
        self.momenta = [norm.momentum for norm in self.norms]
        self.counts = [_clone(norm.num_batches_tracked) for norm in self.norms]
        for norm in self.norms:
            norm.momentum = 0.0

    def __exit__(self, *error: object) -> None:
        for norm, momentum, count in zip(self.norms, self.momenta, self.counts, strict=True):
            norm.momentum = momentum
            if count is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(count)


def _clone(count: Tensor | None) -> Tensor | None:
    return None if count is None else count.clone()
