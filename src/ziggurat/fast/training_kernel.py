"""A feed-forward branch that learns: sooner, and in less memory.

Between its two linear layers lies the hidden map, 4 to 8 times as wide as its input. Operator by
operator, the normalised map, the hidden map before the depthwise convolution, the one after it and
the one after each activation are kept for the backward pass, and travel to memory and back. Here
the branch's input and the first of the hidden maps are kept. The others are made again for the
gradients, a band of images at a time, by the kernel of `hidden_map.cpp`, in buffers that stay in
the cache.

Shapes: B images, H x W map, C channels, N hidden ones; P pixels of all images.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ziggurat.fast.compiler import KernelUnavailableError, check_status, load_library
from ziggurat.fast.layers import FUNCTIONS, TOLERANCES, Activation

FULL = torch.float32
BAND_BYTES = 2**23
"""Hidden values of a band; two buffers of them are to fit into the cache."""

LANES = 16
"""A multiple of the values in a register of any processor."""

NUM_TAPS = 9
NUM_SUMS = NUM_TAPS + 2
"""Gradients of a hidden channel: of its taps, and of the biases of convolution and expansion."""

ACTIVATIONS: tuple[tuple[Activation, ...], ...] = (
    ("hardswish", "hardswish"),
    ("none", "gelu"),
    ("relu", "gelu"),
    ("gelu",),
)
"""What the source has: before and after a depthwise convolution, or where there is none."""


class TrainingKernel:
    """The kernel, loaded.

    Args:
        library: What was built from the source.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._function = library.ziggurat_hidden_map
        self.chunk: int = library.ziggurat_hidden_chunk()
        """Hidden channels that are worked on at a time; they are a multiple of it."""

    def takes(self, num_hidden: int, activations: tuple[Activation, ...]) -> bool:
        """Return whether the kernel is for a block.

        Args:
            num_hidden: Number of hidden channels N.
            activations: What follows its layers but the last.
        """
        multiple = self.chunk if len(activations) > 1 else LANES
        return activations in ACTIVATIONS and num_hidden % multiple == 0

    def __call__(
        self,
        activations: tuple[Activation, ...],
        taps: Float32[Tensor, "9 N"] | None,
        bias: Float32[Tensor, " N"] | None,
        band: "Band",
        hidden: Float[Tensor, "P N"],
        out: Float[Tensor, "P N"],
        gradient: Float[Tensor, "P N"] | None = None,
        sums: Float32[Tensor, "B 11 N"] | None = None,
    ) -> None:
        """Compute the output, and the gradients where that of the output is given.

        Maps are all of float32 or all of bfloat16, weights and sums always of float32.

        Args:
            activations: One of `ACTIVATIONS`.
            taps: Weights of the depthwise convolution, if there is one.
            bias: Its bias.
            band: Which images they are.
            hidden: What the expansion gave.
            out: Where the output goes.
            gradient: That of the output, which that of `hidden` replaces.
            sums: Where those of the taps and of both biases go, if there is a convolution; of all
                images.

        Without memory for the kernel's buffers this is a `MemoryError`.
        """
        shape = (band.images.stop - band.images.start, *band.size, hidden.shape[1])
        status = self._function(
            _addresses(hidden, out, gradient, None if sums is None else sums[band.images]),
            _addresses(taps, bias),
            (ctypes.c_int64 * len(shape))(*shape),
            " ".join(activations).encode(),
            hidden.dtype == torch.bfloat16,
            torch.get_num_threads(),
        )
        check_status(status, activations)


def _addresses(*tensors: Tensor | None) -> "ctypes.Array[ctypes.c_void_p]":
    return (ctypes.c_void_p * len(tensors))(*(None if t is None else t.data_ptr() for t in tensors))


class Norm(NamedTuple):
    """LayerNorm over the channels.

    Attributes:
        weight: Scale of each channel.
        bias: Shift of each channel.
        eps: Added to the variance.
    """

    weight: Float32[Tensor, " C"]
    bias: Float32[Tensor, " C"]
    eps: float


def lean_branch(
    x: Float[Tensor, "B H W C"],
    norm: Norm,
    layers: Sequence[tuple[Tensor, Tensor]],
    activations: tuple[Activation, ...],
    *,
    precision: torch.dtype,
    scale: float,
) -> Float[Tensor, "B H W C"]:
    """Return a map and what the branch gives for it, added up, on the CPU.

    Args:
        x: The map, of float32 or bfloat16.
        norm: What the branch begins with.
        layers: Weights and bias, of float32: of the expansion, of the depthwise convolution if
            there is one, and of the projection.
        activations: One of `ACTIVATIONS`.
        precision: Of the products, float32 or bfloat16.
        scale: Factor of the branch.
    """
    (expand, expand_bias), *middle, (project, project_bias) = layers
    conv, conv_bias = middle[0] if middle else (None, None)
    y: Tensor = _LeanBranch.apply(
        _Fixed(activations, precision, scale, norm.eps),
        x.contiguous(),
        norm.weight,
        norm.bias,
        expand.flatten(1),
        expand_bias,
        conv,
        conv_bias,
        project.flatten(1),
        project_bias,
    )
    return y


class _Fixed(NamedTuple):
    """What a branch learns nothing about."""

    activations: tuple[Activation, ...]
    precision: torch.dtype
    scale: float
    eps: float


class _LeanBranch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        fixed: _Fixed,
        x: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        expand: Tensor,
        expand_bias: Tensor,
        conv: Tensor | None,
        conv_bias: Tensor | None,
        project: Tensor,
        project_bias: Tensor,
    ) -> Tensor:
        kernel = load_training_kernel()
        activations, precision, scale, eps = fixed
        taps = None if conv is None else conv.flatten(1).T.contiguous()
        expand, project = expand.to(precision), project.to(precision)
        expand_bias, project_bias = expand_bias.to(precision), project_bias.to(precision)
        pixels = x.flatten(0, 2)
        hidden = pixels.new_empty(len(pixels), len(expand), dtype=precision)
        y = torch.empty_like(x)
        sums = y.flatten(0, 2)
        bands = _bands(x, hidden)
        middles = torch.empty_like(hidden[bands[0].pixels])
        products = middles.new_empty(len(middles), len(project))
        for band in bands:
            start, of_band = pixels[band.pixels], hidden[band.pixels]
            out, product = middles[: len(start)], products[: len(start)]
            normed, _, _ = _normalise(start, norm_weight, norm_bias, eps)
            torch.addmm(expand_bias, normed.to(precision), expand.T, out=of_band)
            kernel(activations, taps, conv_bias, band, of_band, out)
            torch.addmm(project_bias, out, project.T, out=product)
            torch.add(start, product, alpha=scale, out=sums[band.pixels])
        kept = (x, norm_weight, norm_bias, hidden, expand, taps, conv_bias, project)
        ctx.save_for_backward(*kept)  # type: ignore[arg-type]  # None is fine
        ctx.fixed = fixed  # type: ignore[attr-defined]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, norm_weight, norm_bias, hidden, expand, taps, conv_bias, project = ctx.saved_tensors  # type: ignore[attr-defined]
        fixed: _Fixed = ctx.fixed  # type: ignore[attr-defined]
        kernel = load_training_kernel()
        pixels, slopes = x.flatten(0, 2), slopes.flatten(0, 2)
        of_x = torch.empty_like(pixels)
        # Of weights: in float32, as they are, since bands are added up.
        of_expand, of_project = (torch.zeros_like(w, dtype=FULL) for w in (expand, project))
        of_norm = torch.zeros_like(norm_weight), torch.zeros_like(norm_bias)
        sums = x.new_zeros(len(x), NUM_SUMS, len(expand), dtype=FULL)
        scaled = project * fixed.scale
        bands = _bands(x, hidden)
        middles = hidden.new_empty(2, len(hidden[bands[0].pixels]), len(expand))
        for band in bands:
            start, of_band, of_end = pixels[band.pixels], hidden[band.pixels], slopes[band.pixels]
            out, gradient = middles[:, : len(start)]
            of_product = of_end.to(fixed.precision)
            torch.mm(of_product, scaled, out=gradient)
            kernel(fixed.activations, taps, conv_bias, band, of_band, out, gradient, sums)
            normed, mean, deviation = _normalise(start, norm_weight, norm_bias, fixed.eps)
            of_project += of_product.T @ out
            of_expand += gradient.T @ normed.to(fixed.precision)
            if taps is None:
                sums[band.images.start, -1] = gradient.sum(0, dtype=FULL)
            of_start, *of_both = torch.ops.aten.native_layer_norm_backward(
                (gradient @ expand).to(start.dtype),
                start,
                norm_weight.shape,
                mean,
                deviation,
                norm_weight,
                norm_bias,
                (True, True, True),
            )
            torch.add(of_start, of_end, out=of_x[band.pixels])
            for total, part in zip(of_norm, of_both, strict=True):
                total += part
        total = sums.sum(0)
        return (
            None,
            of_x.view_as(x),
            *of_norm,
            of_expand,
            total[-1],
            None if taps is None else total[:NUM_TAPS].T.reshape(-1, 1, 3, 3),
            None if taps is None else total[NUM_TAPS],
            of_project * fixed.scale,
            slopes.sum(0, dtype=FULL) * fixed.scale,
        )


def _normalise(
    pixels: Float[Tensor, "P C"], weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels, normalised, and what they were normalised by."""
    return torch.native_layer_norm(pixels, weight.shape, weight, bias, eps)


@dataclass(frozen=True)
class Band:
    """Images that are worked on at a time.

    Attributes:
        images: Which they are.
        pixels: Rows of theirs in a map without its spatial axes.
        size: Height and width of each.
    """

    images: slice
    pixels: slice
    size: tuple[int, int]


def _bands(x: Float[Tensor, "B H W C"], hidden: Float[Tensor, "P N"]) -> list[Band]:
    batch, height, width = x.shape[:3]
    area = height * width
    count = max(1, BAND_BYTES // (area * hidden.shape[1] * hidden.element_size()))
    bands = []
    for start in range(0, batch, count):
        end = min(start + count, batch)
        bands.append(Band(slice(start, end), slice(start * area, end * area), (height, width)))
    return bands


@cache
def load_training_kernel() -> TrainingKernel:
    """Build the kernel if this machine has not yet, load it and try it out.

    Where that is impossible a `KernelUnavailableError` says why.
    """
    kernel = TrainingKernel(load_library("hidden_map"))
    with torch.inference_mode(False):
        for activations in ACTIVATIONS:
            for dtype in TOLERANCES:
                _check(kernel, activations, dtype)
    return kernel


def _check(kernel: TrainingKernel, activations: tuple[Activation, ...], dtype: torch.dtype) -> None:
    """Compare with plain PyTorch: compilers err, and so may the flags for this processor.

    Raises:
        KernelUnavailableError: If the results differ.
    """
    draw = torch.Generator("cpu").manual_seed(0)
    # Whatever the caller's usual precision and device are.
    usual: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    channels, batch, size = 2 * kernel.chunk, 2, (5, 7)
    shape = (batch * size[0] * size[1], channels)
    hidden, slopes = (torch.randn(shape, generator=draw, **usual).to(dtype) for _ in range(2))
    taps = torch.randn(NUM_TAPS, channels, generator=draw, **usual)
    bias = torch.randn(channels, generator=draw, **usual)
    has_conv = len(activations) > 1
    out, gradient = hidden.clone(), slopes.clone()
    sums = torch.zeros(batch, NUM_SUMS, channels, **usual)
    band = Band(slice(0, batch), slice(0, len(hidden)), size)
    kernel(
        activations,
        taps if has_conv else None,
        bias if has_conv else None,
        band,
        hidden,
        out,
        gradient,
        sums,
    )

    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        start, weight, offset = (x.float().requires_grad_() for x in (hidden, taps, bias))
        plain = FUNCTIONS[activations[0]](start)
        if has_conv:
            maps = plain.unflatten(0, (batch, *size)).permute(0, 3, 1, 2)
            kernels = weight.T.reshape(-1, 1, 3, 3)
            maps = F.conv2d(maps, kernels, offset, padding=1, groups=channels)
            plain = FUNCTIONS[activations[1]](maps.permute(0, 2, 3, 1).flatten(0, 2))
        of_start, of_taps, of_offset = torch.autograd.grad(
            plain, (start, weight, offset), slopes.float(), allow_unused=True
        )
    pairs = [(out, plain.detach()), (gradient, of_start)]
    if has_conv:
        wanted = torch.cat((of_taps, of_offset[None], of_start.sum(0)[None]))
        pairs.append((sums.sum(0), wanted))
    for ours, expected in pairs:
        error = (ours.float() - expected).norm() / expected.norm()
        if not error < TOLERANCES[dtype]:
            raise KernelUnavailableError(
                f"it computes something else ({activations}, {dtype}: {error:.1e})"
            )
