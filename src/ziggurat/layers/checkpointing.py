"""Trade time for memory: forget what a block computed, and compute it again for the gradient."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run_block(block: nn.Module, *inputs: object, use_checkpointing: bool) -> Tensor:
    """Run a block; with checkpointing its inner tensors are not kept for the backward pass.

    Chen et al., arXiv:1604.06174. Random numbers are drawn alike both times, so that stochastic
    depth keeps its choice.

    Args:
        block: Takes the inputs and returns one tensor.
        inputs: What the block takes.
        use_checkpointing: Whether to forget; without gradients there is nothing to keep anyway.
    """
    if use_checkpointing and torch.is_grad_enabled():
        return cast(Tensor, checkpoint(block, *inputs, use_reentrant=False))
    return cast(Tensor, block(*inputs))
