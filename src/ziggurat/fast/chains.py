"""Blocks that are a chain of convolutions, each family's described in one place.

How a chain runs depends on what it is: expansion, depthwise 3x3 and projection go through one
compiled kernel where there is one; any other chain goes layer by layer through oneDNN, which
includes the activations. The blocks themselves know nothing of it.

Shapes: B images, C channels, H x W map, h x w map that comes out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.backbones import p2t, pvt_v2, resnet, topformer
from ziggurat.fast.inference_kernel import Kernel
from ziggurat.fast.layers import Activation, OneDnnConv, fold
from ziggurat.layers.feed_forward import FeedForward
from ziggurat.layers.semantics import SemanticsFeedForward

WIDEST_FOR_KERNEL = 256
"""Channels of a map. Of a wider one so few pixels fit into the cache that the kernel spends more on
the borders of its tiles than it saves (docs/fast_inference.md has the measurement)."""

Layers = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Link:
    """A layer of a chain and the activation that follows it."""

    layer: nn.Module
    activation: Activation = "none"


@dataclass(frozen=True)
class Chain:
    """A block: its layers one after the other, and what is added at the end.

    Attributes:
        links: The layers; the last one has no activation.
        shortcut: Makes of the block's input what is added to the last layer's output.
        is_rectified: Whether a ReLU follows the sum.
    """

    links: tuple[Link, ...]
    shortcut: nn.Module | None = None
    is_rectified: bool = False


def describe(block: nn.Module) -> Chain | None:
    """Return what a block is made of, or None if it is no chain that is known here.

    Args:
        block: Any module.
    """
    match block:
        case p2t.InvertedResidual():
            links = (
                Link(block.fc1, "hardswish"),
                Link(block.conv, "hardswish"),
                Link(block.fc2),
            )
            return Chain(links)
        case pvt_v2.ConvFeedForward():
            first: Activation = "relu" if block.use_relu else "none"
            return Chain((Link(block.fc1, first), Link(block.conv, "gelu"), Link(block.fc2)))
        case FeedForward():
            return Chain((Link(block.fc1, "gelu"), Link(block.fc2)))
        case SemanticsFeedForward():
            return Chain((Link(block.fc1), Link(block.dwconv, "relu6"), Link(block.fc2)))
        case topformer.InvertedResidual():
            expand = () if block.expand is None else (Link(block.expand, "relu"),)
            rest = (Link(block.depthwise, "relu"), Link(block.project))
            return Chain((*expand, *rest), nn.Identity() if block.is_residual else None)
        case resnet.Bottleneck():
            links = (Link(block.conv1, "relu"), Link(block.conv2, "relu"), Link(block.conv3))
            return Chain(links, block.shortcut, is_rectified=True)
    return None


def pack(chain: Chain, dtype: torch.dtype, kernel: Kernel | None) -> Layers | None:
    """Return what computes a chain on the CPU, or None if a norm cannot be folded.

    Args:
        chain: The block.
        dtype: Precision of its products.
        kernel: The compiled kernel, where there is one.
    """
    layers = _pack_links(chain.links, dtype, kernel)
    if layers is None or chain.shortcut is None:
        return layers
    shortcut: Layers = chain.shortcut
    if not isinstance(chain.shortcut, nn.Identity):
        weights = fold(chain.shortcut)
        if weights is None:
            return None
        shortcut = OneDnnConv(weights, dtype)
    return Residual(layers, shortcut, is_rectified=chain.is_rectified)


def _pack_links(
    links: tuple[Link, ...], dtype: torch.dtype, kernel: Kernel | None
) -> Layers | None:
    folded = [fold(link.layer) for link in links]
    weights = [w for w in folded if w is not None]
    if len(weights) < len(links):
        return None
    activations = [link.activation for link in links]
    if kernel is not None and len(links) == 3:
        expand, depthwise, project = weights
        is_wide_chain = expand.is_pointwise and depthwise.is_depthwise_3x3 and project.is_pointwise
        channels = expand.weight.shape[1]
        if is_wide_chain and channels <= WIDEST_FOR_KERNEL and kernel.takes(channels, dtype):
            pair = (activations[0], activations[1])
            return kernel.pack(expand, depthwise, project, pair, dtype)
    return Sequence([OneDnnConv(w, dtype, a) for w, a in zip(weights, activations, strict=True)])


class Sequence:
    """Layers one after the other.

    Args:
        layers: Each takes what the one before it returned.
    """

    def __init__(self, layers: list[OneDnnConv]) -> None:
        self._layers = layers

    def __call__(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B out h w"]:
        """Return the map of the last layer."""
        for layer in self._layers:
            x = layer(x)
        return x


class Residual:
    """Layers whose output is added to the shortcut of their input.

    Args:
        layers: The long way; their output belongs to nobody else, and the sum is written there.
        shortcut: The short way.
        is_rectified: Whether a ReLU follows the sum.
    """

    def __init__(self, layers: Layers, shortcut: Layers, *, is_rectified: bool) -> None:
        self._layers = layers
        self._shortcut = shortcut
        self._is_rectified = is_rectified

    def __call__(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B out h w"]:
        """Return the sum."""
        y = self._layers(x).add_(self._shortcut(x))
        return F.relu_(y) if self._is_rectified else y
