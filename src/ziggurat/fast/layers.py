"""One layer as inference wants it: batch norm folded in, weights laid out, activation included.

A batch norm that no longer gathers statistics is a scale and a shift of each channel; the
convolution in front of it absorbs both. oneDNN, PyTorch's library for CPUs, multiplies faster when
weights lie in blocks of its own, which it otherwise makes anew in every call, and applies an
activation to values that it has in hand.

Shapes: B images, H x W map, h x w map that comes out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.backbones.resnet import FrozenBatchNorm
from ziggurat.heads.pixel_classifier import sum_at_first_size
from ziggurat.heads.segformer import Mixing
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.tokens import to_tokens
from ziggurat.ops.precision import to_float64

Activation = Literal["none", "relu", "relu6", "hardswish", "gelu"]

FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
}

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 5e-3}
"""Relative difference of a compiled kernel to plain PyTorch; a bfloat16 has 8 bits."""

# Name, numbers and algorithm of each activation, as oneDNN's operators take them.
ONEDNN: dict[Activation, tuple[str, list[float], str]] = {
    "none": ("none", [], ""),
    "relu": ("relu", [], ""),
    "relu6": ("hardtanh", [0.0, 6.0], ""),
    "hardswish": ("hardswish", [], ""),
    "gelu": ("gelu", [], "none"),  # the exact one, not the tanh
}

OPERATORS = ("_convolution_pointwise", "_linear_pointwise", "_reorder_linear_weight")


@dataclass(frozen=True)
class Weights:
    """A convolution and what of its norm is folded into it.

    Attributes:
        weight: Kernel.
        bias: Added to each channel.
        stride: Input pixels per output pixel, down and across.
        padding: Zeros around the map, down and across.
        dilation: Pixels between taps of the kernel, down and across.
        groups: Blocks of channels that do not mix.
    """

    weight: Float[Tensor, "out in kh kw"]
    bias: Float[Tensor, " out"]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def is_pointwise(self) -> bool:
        """Whether each pixel of the output depends on one pixel of the input."""
        return self.weight.shape[2:] == (1, 1) and self.stride == (1, 1) and self.groups == 1

    @property
    def is_depthwise_3x3(self) -> bool:
        """Whether each channel sees its own 3x3 neighbours, and the map keeps its size."""
        kernel = tuple(self.weight.shape[1:])
        same = (self.stride, self.padding, self.dilation) == ((1, 1), (1, 1), (1, 1))
        return kernel == (1, 3, 3) and same and self.groups == len(self.weight)


def fold(layer: nn.Module) -> Weights | None:
    """Return the weights of a layer with its norm folded in, or None where that is impossible.

    Args:
        layer: A linear layer, a convolution, or a convolution with a norm.
    """
    if isinstance(layer, nn.Linear):
        kernel = layer.weight.detach()[:, :, None, None]
        return Weights(kernel, _bias(layer.bias, kernel), (1, 1), (0, 0), (1, 1), 1)
    if isinstance(layer, nn.Conv2d):
        return _of_conv(layer)
    if isinstance(layer, ConvNorm | Mixing) and isinstance(
        layer.norm, nn.BatchNorm2d | FrozenBatchNorm
    ):
        return _fold_norm(_of_conv(layer.conv), layer.norm)
    return None


def _of_conv(conv: nn.Conv2d) -> Weights | None:
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return None
    kernel = conv.weight.detach()
    return Weights(
        kernel,
        _bias(conv.bias, kernel),
        _pair(conv.stride),
        _pair(conv.padding),
        _pair(conv.dilation),
        conv.groups,
    )


def _fold_norm(plain: Weights | None, norm: nn.BatchNorm2d | FrozenBatchNorm) -> Weights | None:
    mean, var = norm.running_mean, norm.running_var
    if plain is None or mean is None or var is None:
        return None
    # In double precision: rounding once more would add up over the layers.
    scale = to_float64(norm.weight.detach()) / (to_float64(var) + norm.eps).sqrt()
    offset = to_float64(plain.bias) - to_float64(mean)
    shift = to_float64(norm.bias.detach()) + offset * scale
    kernel = to_float64(plain.weight) * scale[:, None, None, None]
    return Weights(
        kernel.to(plain.weight, memory_format=torch.channels_last),
        shift.to(plain.weight),
        plain.stride,
        plain.padding,
        plain.dilation,
        plain.groups,
    )


def _bias(bias: Tensor | None, kernel: Tensor) -> Tensor:
    return kernel.new_zeros(len(kernel)) if bias is None else bias.detach()


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    down, across = values
    return down, across


class FoldedConv:
    """A convolution with its norm folded in, on any device.

    Args:
        weights: The convolution.
        dtype: Precision of the product.
    """

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._weight, self._bias = weights.weight.to(dtype), weights.bias.to(dtype)
        self._geometry = (weights.stride, weights.padding, weights.dilation, weights.groups)

    def __call__(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out h w"]:
        """Return the map."""
        return F.conv2d(x.to(self._dtype), self._weight, self._bias, *self._geometry)


class FoldedMixing:
    """The mixing of SegFormer's head: a product for each map, the norm in their weights.

    Args:
        weights: The convolution of all maps side by side, with its norm folded in.
        prepare: Makes a layer of the weights for one map.
    """

    def __init__(
        self, weights: Weights, prepare: Callable[[Weights], Callable[..., Tensor]]
    ) -> None:
        kernel = weights.weight
        kernels = kernel.split(len(kernel), dim=1)
        none = torch.zeros_like(weights.bias)
        self._products = [
            prepare(replace(weights, weight=part, bias=none if number else weights.bias))
            for number, part in enumerate(kernels)
        ]

    def __call__(self, maps: Sequence[Float[Tensor, "B C _ _"]]) -> Float[Tensor, "B C H W"]:
        """Return the mixture at the size of the first map."""
        return sum_at_first_size(
            product(x) for product, x in zip(self._products, maps, strict=True)
        )


def has_onednn() -> bool:
    """Tell whether this build of PyTorch has oneDNN and the operators that are used here."""
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in OPERATORS
    )


class OneDnnConv:
    """A convolution and its activation through oneDNN, on the CPU.

    A 1x1 convolution is a product of every pixel with packed weights. Other kernels stay in
    channels_last: packed for no size in particular, oneDNN takes ten times as long at some sizes.

    Args:
        weights: The convolution.
        dtype: Precision of the product, and of what comes out.
        activation: Applied to its output.
    """

    def __init__(
        self,
        weights: Weights,
        dtype: torch.dtype,
        activation: Activation = "none",
    ) -> None:
        self._dtype = dtype
        self._product = None
        if weights.is_pointwise:
            kernel = weights.weight.flatten(1)
            self._product = OneDnnLinear(kernel, weights.bias, dtype, activation)
        # Not contiguous(channels_last), which leaves depthwise kernels as they are: their strides
        # then mean either layout, and at batch 1 oneDNN may take the slow one.
        rows = weights.weight.to(dtype).permute(0, 2, 3, 1).contiguous()
        self._weight = rows.permute(0, 3, 1, 2)
        self._bias = weights.bias.to(dtype)
        self._geometry = (weights.padding, weights.stride, weights.dilation, weights.groups)
        self._activation = ONEDNN[activation]

    def __call__(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out h w"]:
        """Return the map in channels_last memory."""
        if self._product is not None:
            # Every stride of this view is plain, that of a batch of one too: oneDNN looks at it.
            return self._product(to_tokens(x)).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        x = x.to(self._dtype).contiguous(memory_format=torch.channels_last)
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, *self._geometry, *self._activation
        )
        return y


class OneDnnLinear:
    """A linear layer and its activation through oneDNN, on the CPU.

    Args:
        weight: Weights, which are copied to oneDNN's own layout.
        bias: Added to each channel.
        dtype: Precision of the product, and of what comes out.
        activation: Applied to the output.
    """

    def __init__(
        self,
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, " out"],
        dtype: torch.dtype,
        activation: Activation = "none",
    ) -> None:
        self._dtype = dtype
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype))
        self._bias = bias.to(dtype)
        self._activation = activation

    def __reduce__(self) -> tuple[type["OneDnnLinear"], tuple[object, ...]]:
        """Say how a copy is made: oneDNN's layout can be neither copied nor saved."""
        return OneDnnLinear, (self._packed.to_dense(), self._bias, self._dtype, self._activation)

    def __call__(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """Return the product of the last axis with the weights."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(self._dtype), self._packed, self._bias, *ONEDNN[self._activation]
        )
        return y
