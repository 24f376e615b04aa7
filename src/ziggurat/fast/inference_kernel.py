"""The feed-forward kernel of inference: laying out weights for it, calling it.

`feed_forward.cpp` says what it computes and why.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.fast.compiler import KernelUnavailableError, check_status, load_library
from ziggurat.fast.layers import FUNCTIONS, TOLERANCES, Activation, Weights
from ziggurat.ops.machine import processor_entry

INPUTS_TRIED = 12
"""Channels of the map with which the kernel is tried out."""

ActivationPair = tuple[Activation, Activation]
"""What follows the expansion, and what follows the depthwise convolution."""

PAIRS: tuple[ActivationPair, ...] = (
    ("hardswish", "hardswish"),
    ("none", "gelu"),
    ("relu", "gelu"),
    ("relu", "relu"),
    ("none", "relu6"),
)
"""The pairs that the source has."""


def has_products(dtype: torch.dtype) -> bool:
    """Tell whether the kernel is for a precision on this processor.

    Where AMX multiplies whole tiles of bfloat16, oneDNN's products are several times as fast as
    those of pairs that the kernel has.

    Args:
        dtype: Precision of the products.
    """
    if dtype == torch.float32:
        return True
    flags = (processor_entry("flags") or "").split()
    return "avx512_bf16" in flags and "amx_bf16" not in flags


class Kernel:
    """The kernel, loaded.

    Args:
        library: What was built from the source.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._function = library.ziggurat_feed_forward
        self._panel: int = library.ziggurat_panel()
        self._chunk: int = library.ziggurat_chunk()
        self._depths = {torch.float32: 1, torch.bfloat16: int(library.ziggurat_bfloat16_depth())}

    def takes(self, channels: int, dtype: torch.dtype) -> bool:
        """Return whether this processor has products of a precision, and of so many inputs.

        Args:
            channels: Channels that come in.
            dtype: Precision of the products.
        """
        depth = self._depths.get(dtype, 0)
        return depth > 0 and channels % depth == 0

    def pack(
        self,
        expand: Weights,
        depthwise: Weights,
        project: Weights,
        activations: ActivationPair,
        dtype: torch.dtype,
    ) -> "PackedFeedForward":
        """Lay out the weights of a block.

        Args:
            expand: 1x1 convolution, for whose channels `takes` is true.
            depthwise: Depthwise 3x3 convolution.
            project: 1x1 convolution.
            activations: One of `PAIRS`.
            dtype: Precision of the products and of the map that comes out.
        """
        hidden = len(expand.weight)
        more = -hidden % self._chunk  # channels of zeros, which project to nothing
        last = F.pad(project.weight.flatten(1), (0, more))
        buffers = (
            self._panels(F.pad(expand.weight.flatten(1), (0, 0, 0, more)), dtype),
            F.pad(expand.bias, (0, more)),
            F.pad(depthwise.weight.flatten(1).T, (0, more)).contiguous(),
            F.pad(depthwise.bias, (0, more)),
            self._panels(F.pad(last, (0, 0, 0, -len(last) % self._panel)), dtype),
            project.bias.contiguous(),
        )
        sizes = (expand.weight.shape[1], hidden + more, len(project.weight))
        return self.hold(buffers, sizes, activations)

    def hold(
        self,
        buffers: tuple[Tensor, ...],
        sizes: tuple[int, int, int],
        activations: ActivationPair,
    ) -> "PackedFeedForward":
        """Take weights that are laid out already.

        Args:
            buffers: As `PackedFeedForward` has them.
            sizes: Likewise.
            activations: One of `PAIRS`.
        """
        return PackedFeedForward(self._function, buffers, sizes, activations)

    def _panels(
        self, matrix: Float[Tensor, "out in"], dtype: torch.dtype
    ) -> Float[Tensor, "panels parts panel depth"]:
        parts = matrix.to(dtype).unflatten(1, (-1, self._depths[dtype]))
        return parts.unflatten(0, (-1, self._panel)).transpose(1, 2).contiguous()


class PackedFeedForward:
    """Expansion, depthwise 3x3 and projection in one go, on the CPU.

    Args:
        function: The kernel.
        buffers: Weights and biases as the kernel reads them; the first has the precision of the
            products.
        sizes: Channels that come in, hidden channels with their padding, channels that go out.
        activations: What follows the expansion and the depthwise convolution.
    """

    def __init__(
        self,
        function: "ctypes._NamedFuncPointer",
        buffers: tuple[Tensor, ...],
        sizes: tuple[int, int, int],
        activations: ActivationPair,
    ) -> None:
        self._function = function
        self._buffers = buffers  # the addresses below point into them
        self._addresses = (ctypes.c_void_p * len(buffers))(*(t.data_ptr() for t in buffers))
        self._dtype = buffers[0].dtype
        self._sizes = sizes
        self._activations = activations

    def __reduce__(self) -> tuple[Callable[..., "PackedFeedForward"], tuple[object, ...]]:
        """Say how a copy is made, whose addresses are others."""
        return _load_packed, (self._buffers, self._sizes, self._activations)

    def __call__(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out H W"]:
        """Return the projected map in channels_last memory.

        Without memory for the kernel's buffers this is a `MemoryError`.
        """
        x = x.to(self._dtype).contiguous(memory_format=torch.channels_last)
        batch, _, height, width = x.shape
        channels_in, hidden, channels_out = self._sizes
        y = x.new_empty(batch, height, width, channels_out).permute(0, 3, 1, 2)
        shape = (batch, height, width, channels_in, hidden, channels_out)
        status = self._function(
            ctypes.c_void_p(x.data_ptr()),
            self._addresses,
            ctypes.c_void_p(y.data_ptr()),
            (ctypes.c_int64 * len(shape))(*shape),
            " ".join(self._activations).encode(),
            self._dtype == torch.bfloat16,
            torch.get_num_threads(),
        )
        check_status(status, self._activations)
        return y


def _load_packed(
    buffers: tuple[Tensor, ...], sizes: tuple[int, int, int], activations: ActivationPair
) -> PackedFeedForward:
    try:
        return load_kernel().hold(buffers, sizes, activations)
    except KernelUnavailableError as error:
        raise ZigguratError(
            f"the optimized model goes through a kernel that is not to be had here: {error}; "
            "optimize the plain model on this machine"
        ) from error


@cache
def load_kernel() -> Kernel:
    """Build the kernel if this machine has not yet, load it and try it out.

    Where that is impossible a `KernelUnavailableError` says why.
    """
    kernel = Kernel(load_library("feed_forward"))
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for dtype in TOLERANCES:
            if kernel.takes(INPUTS_TRIED, dtype):
                for pair in PAIRS:
                    _check(kernel, pair, dtype)
    return kernel


def _check(kernel: Kernel, activations: ActivationPair, dtype: torch.dtype) -> None:
    """Compare with plain PyTorch: compilers err, and so may the flags for this processor.

    Raises:
        KernelUnavailableError: If the results differ.
    """
    draw = torch.Generator("cpu").manual_seed(0)
    # Whatever the caller's usual precision and device are.
    usual: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}

    def weights(*shape: int, groups: int = 1) -> Weights:
        padding = (shape[-1] // 2,) * 2
        values = torch.randn(*shape, generator=draw, **usual) / shape[1] ** 0.5
        bias = torch.randn(shape[0], generator=draw, **usual)
        return Weights(values, bias, (1, 1), padding, (1, 1), groups)

    wide = weights(70, 1, 3, 3, groups=70)
    layers = weights(70, INPUTS_TRIED, 1, 1), wide, weights(25, 70, 1, 1)
    x = torch.randn(2, INPUTS_TRIED, 15, 13, generator=draw, **usual)
    expected = x
    for w, activation in zip(layers, (*activations, "none"), strict=True):
        y = F.conv2d(expected, w.weight, w.bias, padding=w.padding, groups=w.groups)
        expected = FUNCTIONS[activation](y)
    found = kernel.pack(*layers, activations, dtype)(x)
    error = (found - expected).norm() / expected.norm()
    if not error < TOLERANCES[dtype]:
        raise KernelUnavailableError(f"it computes something else ({activations}: {error:.1e})")
