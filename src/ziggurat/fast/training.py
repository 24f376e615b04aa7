"""A model that trains sooner, and in less memory, on the CPU."""

import warnings
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.backbones import p2t, pvt_v2
from ziggurat.fast.chains import describe
from ziggurat.fast.compiler import KernelUnavailableError
from ziggurat.fast.layers import Activation
from ziggurat.fast.training_kernel import (
    TrainingKernel,
    lean_feed_forward,
    load_training_kernel,
)
from ziggurat.layers.feed_forward import FeedForward

AnyModel = TypeVar("AnyModel", bound=nn.Module)
Layer = nn.Linear | nn.Conv2d

WEIGHTS = ("cpu", torch.float32)
"""Device and precision of weights that the kernel is for."""


def optimize_for_training(model: AnyModel) -> AnyModel:
    """Let the feed-forward blocks of a model learn sooner, and in less memory.

    The blocks of P2T, PVT, PVT v2 and GPViT go through a kernel that is compiled for this processor
    at its first use. It is for first derivatives on the CPU, of weights in float32, with or without
    autocast to bfloat16; elsewhere, in `torch.compile` and where nothing learns, the blocks compute
    as before. Gradients differ by rounding, in float32 relatively by less than 1e-5. Parameters and
    their names stay; hooks on layers inside of these blocks are not called. Where the kernel cannot
    be built, a warning says why, and the model stays as it is.

    Args:
        model: A model or backbone; it is changed, not copied.

    Returns:
        The same model.
    """
    try:
        use_training_kernel(model)
    except KernelUnavailableError as error:
        warnings.warn(f"the model trains as before, without the kernel: {error}", stacklevel=2)
    return model


def use_training_kernel(model: nn.Module) -> int:
    """Let the blocks that the kernel is for go through it.

    Where it cannot be built a `KernelUnavailableError` says why, and the model is as it was.

    Args:
        model: A model or backbone.

    Returns:
        The number of blocks that changed.
    """
    kernel = load_training_kernel()
    blocks = [block for block in model.modules() if type(block) in LEAN and _fits(block, kernel)]
    for block in blocks:
        block.__class__ = LEAN[type(block)]
    return len(blocks)


class LeanBlock(nn.Module):
    """The other way to compute a block; what it is not for goes the plain way.

    A block becomes one by a change of its class: parameters, names and copies are as before.
    """

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Return what the block gives."""
        precision = _precision_for(self, x)
        if precision is None:
            plain: Tensor = super().forward(x)  # that of the block's own class
            return plain
        layers, activations = _parts(self)
        pixels = x.permute(0, 2, 3, 1).contiguous().to(precision)
        weights = [(layer.weight, layer.bias) for layer in layers]
        return lean_feed_forward(activations, pixels, weights).permute(0, 3, 1, 2)


class LeanInvertedResidual(LeanBlock, p2t.InvertedResidual):
    """The block of P2T."""


class LeanConvFeedForward(LeanBlock, pvt_v2.ConvFeedForward):
    """The block of PVT v2."""


class LeanFeedForward(LeanBlock, FeedForward):
    """The block of PVT and GPViT."""


LEAN: dict[type[nn.Module], type[LeanBlock]] = {
    p2t.InvertedResidual: LeanInvertedResidual,
    pvt_v2.ConvFeedForward: LeanConvFeedForward,
    FeedForward: LeanFeedForward,
}


def _parts(block: nn.Module) -> tuple[list[Layer], tuple[Activation, ...]]:
    """Return the layers of a block, and what follows each of them but the last."""
    chain = describe(block)
    assert chain is not None
    layers = [link.layer for link in chain.links if isinstance(link.layer, Layer)]
    return layers, tuple(link.activation for link in chain.links[:-1])


def _fits(block: nn.Module, kernel: TrainingKernel) -> bool:
    layers, activations = _parts(block)
    return kernel.takes(len(layers[0].weight), activations)


def _precision_for(block: nn.Module, x: Tensor) -> torch.dtype | None:
    """Return the precision of products, or None where the kernel is not for them."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return None
    weight = next(block.parameters())
    if (weight.device.type, weight.dtype) != WEIGHTS or x.device != weight.device:
        return None
    if torch.is_autocast_enabled("cpu"):
        precision, known = torch.get_autocast_dtype("cpu"), torch.bfloat16
    else:
        precision, known = x.dtype, torch.float32
    return precision if precision == known else None
