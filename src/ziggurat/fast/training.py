"""A model that trains sooner, and in less memory, on the CPU."""

import warnings
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.fast.chains import describe
from ziggurat.fast.compiler import KernelUnavailableError
from ziggurat.fast.layers import Activation, fold
from ziggurat.fast.training_kernel import (
    TrainingKernel,
    lean_feed_forward,
    load_training_kernel,
)

AnyModel = TypeVar("AnyModel", bound=nn.Module)
Layer = nn.Linear | nn.Conv2d

FOR = ("cpu", torch.float32)
"""Device and numbers of the kernel."""


def optimize_for_training(model: AnyModel) -> AnyModel:
    """Let the feed-forward blocks of a model learn sooner, and in less memory.

    The blocks of P2T, PVT, PVT v2 and GPViT go through a kernel that is compiled for this processor
    at its first use. It is for the CPU, float32 and first derivatives; on other devices, under
    autocast, in `torch.compile` and where nothing learns, the blocks compute as before. Gradients
    differ by rounding, relatively by less than 1e-5. Parameters and their names stay; hooks on
    layers inside of these blocks are not called. Where the kernel cannot be built, a warning says
    why, and the model stays as it is.

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
        The number of these blocks.
    """
    kernel = load_training_kernel()
    lean = [(block, _lean(block, kernel)) for block in model.modules()]
    for block, forward in lean:
        if forward is not None:
            block.forward = forward
    return sum(forward is not None for _, forward in lean)


class LeanBlock:
    """The other way to compute a block; what it is not for goes the plain way.

    Args:
        block: The block, whose class knows the plain way.
        layers: Its layers: expansion, depthwise 3x3 where there is one, projection.
        activations: What follows each of them but the last.
    """

    def __init__(
        self, block: nn.Module, layers: list[Layer], activations: tuple[Activation, ...]
    ) -> None:
        self._block = block
        self._layers = layers
        self._activations = activations

    def __call__(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Return what the block gives."""
        if not self._is_for(x):
            plain: Tensor = type(self._block).forward(self._block, x)
            return plain
        pixels = x.permute(0, 2, 3, 1).contiguous()
        weights = [(layer.weight, layer.bias) for layer in self._layers]
        return lean_feed_forward(self._activations, pixels, weights).permute(0, 3, 1, 2)

    def _is_for(self, x: Tensor) -> bool:
        weight = self._layers[0].weight
        return (
            torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and (x.device.type, x.dtype) == (weight.device.type, weight.dtype) == FOR
            and not torch.is_autocast_enabled("cpu")
        )


def _lean(block: nn.Module, kernel: TrainingKernel) -> LeanBlock | None:
    chain = describe(block)
    if chain is None or chain.shortcut is not None:
        return None
    layers = [link.layer for link in chain.links]
    plain = [x for x in layers if isinstance(x, nn.Linear | nn.Conv2d) and x.bias is not None]
    activations = tuple(link.activation for link in chain.links[:-1])
    if len(plain) < len(layers):
        return None
    expand, *middle, project = (fold(layer) for layer in plain)
    fits = (
        expand is not None
        and project is not None
        and expand.is_pointwise
        and project.is_pointwise
        and all(conv is not None and conv.is_depthwise_3x3 for conv in middle)
        and kernel.takes(len(expand.weight), activations)
    )
    return LeanBlock(block, plain, activations) if fits else None
