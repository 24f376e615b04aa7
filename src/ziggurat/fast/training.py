"""A model that trains sooner, and in less memory, on the CPU."""

import warnings
from functools import cache
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.backbones import gpvit, p2t
from ziggurat.fast.chains import describe
from ziggurat.fast.compiler import KernelUnavailableError
from ziggurat.fast.layers import TOLERANCES, Activation
from ziggurat.fast.training_kernel import (
    Norm,
    TrainingKernel,
    lean_branch,
    load_training_kernel,
)
from ziggurat.layers.pre_norm_block import FeedForwardBranch, PreNormBlock
from ziggurat.layers.stochastic_depth import can_skip, draw_kept, replace_kept
from ziggurat.ops.tensors import is_transformed

AnyModel = TypeVar("AnyModel", bound=nn.Module)
Layer = nn.Linear | nn.Conv2d

WEIGHTS = ("cpu", torch.float32)
"""Device and precision of weights that the kernel is for."""


def optimize_for_training(model: AnyModel) -> AnyModel:
    """Let the feed-forward halves of a model's blocks learn sooner, and in less memory.

    Those of P2T, PVT, PVT v2 and GPViT go through a kernel that is compiled for this processor
    at its first use. It is for first derivatives on the CPU, of weights in float32, with or without
    autocast to bfloat16; elsewhere, in `torch.compile` and where nothing learns, the blocks compute
    as before. Gradients differ by rounding, in float32 relatively by less than 1e-5. Parameters and
    their names stay; hooks on these halves' layers are not called. Where the kernel cannot
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
    load_training_kernel()
    blocks = [block for block in model.modules() if type(block) in LEAN and _describe(block)]
    for block in blocks:
        block.__class__ = LEAN[type(block)]
    return len(blocks)


class LeanBlock(FeedForwardBranch):
    """The other way to compute a block's second half; what it is not for goes the plain way.

    A block becomes one by a change of its class: parameters, names and copies are as before.
    """

    def mix_channels(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the map after this half."""
        precision = _precision_for(self, x) if can_skip(x, self.drop_path) else None
        half = None if precision is None else _describe(self)
        if precision is None or half is None:
            return super().mix_channels(x)
        layers, activations = half
        norm = Norm(self.norm2.weight, self.norm2.bias, self.norm2.eps)
        kept = draw_kept(x, self.drop_path)

        def run(part: Tensor) -> Tensor:
            pixels = part.permute(0, 2, 3, 1)
            y = lean_branch(
                pixels, norm, layers, activations, precision=precision, scale=kept.scale
            )
            return y.permute(0, 3, 1, 2)

        return replace_kept(x, kept, run)


class LeanPreNormBlock(LeanBlock, PreNormBlock):
    """The block of PVT and PVT v2."""


class LeanP2TBlock(LeanBlock, p2t.Block):
    """The block of P2T."""


class LeanStripeBlock(LeanBlock, gpvit.StripeBlock):
    """GPViT's block with attention in stripes."""


class LeanGroupPropagationBlock(LeanBlock, gpvit.GroupPropagationBlock):
    """GPViT's block with group tokens."""


LEAN: dict[type[nn.Module], type[LeanBlock]] = {
    PreNormBlock: LeanPreNormBlock,
    p2t.Block: LeanP2TBlock,
    gpvit.StripeBlock: LeanStripeBlock,
    gpvit.GroupPropagationBlock: LeanGroupPropagationBlock,
}


class _Half(NamedTuple):
    """A feed-forward block that the kernel is for.

    Attributes:
        layers: Weights and bias of each layer.
        activations: What follows each of them but the last.
    """

    layers: list[tuple[Tensor, Tensor]]
    activations: tuple[Activation, ...]


def _describe(block: nn.Module) -> _Half | None:
    """Return what a block's second half is made of, or None if the kernel is not for it."""
    chain = describe(block.mlp) if isinstance(block, FeedForwardBranch) else None
    if chain is None or chain.shortcut is not None:
        return None
    layers = [
        (link.layer.weight, link.layer.bias)
        for link in chain.links
        if isinstance(link.layer, Layer) and link.layer.bias is not None
    ]
    activations = tuple(link.activation for link in chain.links[:-1])
    if len(layers) < len(chain.links):
        return None
    kernel = _kernel_or_none()
    takes = kernel is not None and kernel.takes(len(layers[0][0]), activations)
    return _Half(layers, activations) if takes else None


@cache
def _kernel_or_none() -> TrainingKernel | None:
    """Return the kernel; None where a model came from a machine that could build it."""
    try:
        return load_training_kernel()
    except KernelUnavailableError as error:
        warnings.warn(f"the model trains without the kernel: {error}", stacklevel=2)
        return None


def _precision_for(block: FeedForwardBranch, x: Tensor) -> torch.dtype | None:
    """Return the precision of products, or None where nothing learns or the kernel is not for."""
    if not torch.is_grad_enabled() or is_transformed():
        return None
    weights = [*block.norm2.parameters(), *block.mlp.parameters()]
    if not any(tensor.requires_grad for tensor in (x, *weights)):
        return None
    if any((weight.device.type, weight.dtype) != WEIGHTS for weight in weights):
        return None
    if x.dtype not in TOLERANCES or not x.numel():
        return None
    if torch.is_autocast_enabled("cpu"):
        precision = torch.get_autocast_dtype("cpu")
        return precision if precision == torch.bfloat16 else None
    return torch.float32 if x.dtype == torch.float32 else None
