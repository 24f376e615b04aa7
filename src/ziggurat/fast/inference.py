"""A copy of a model that predicts sooner: parts of it replaced, by type.

What is replaced keeps the plain part inside: its entries have the same names, and it takes over
whenever the faster way is not for the input (another device or precision than the copy is for,
gradients, export, `torch.compile`).
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from ziggurat.backbones.timm_backbone import TimmBackbone
from ziggurat.errors import ZigguratError
from ziggurat.fast.chains import describe, pack
from ziggurat.fast.compiler import KernelUnavailableError
from ziggurat.fast.inference_kernel import Kernel, has_products, load_kernel
from ziggurat.fast.layers import (
    FoldedConv,
    FoldedMixing,
    OneDnnConv,
    OneDnnLinear,
    Weights,
    fold,
    has_onednn,
)
from ziggurat.heads.segformer import Mixing
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.pointwise import PointwiseConv

AnyModel = TypeVar("AnyModel", bound=nn.Module)


def optimize_for_inference(
    model: AnyModel, *, autocast: torch.dtype | None = None, use_kernel: bool = True
) -> AnyModel:
    """Return a copy of a model that computes the same sooner, and cannot be trained.

    Batch norms are folded into the convolutions in front of them. On the CPU, blocks that are
    chains of convolutions include their activations; the feed-forward blocks of P2T and PVT v2 run
    through a kernel that is compiled at its first use (in bfloat16 on processors that multiply it);
    for bfloat16 linear layers and convolutions hold converted weights. Outputs differ by rounding,
    in float32 on the CPU relatively by less than 2e-5. The copy holds the weights of what is
    replaced twice, as they are and laid out anew. Where the kernel cannot be built, a warning says
    why, and the copy works without it.

    Args:
        model: A classifier, detector or backbone, in eval mode, on the device it will run on.
        autocast: torch.bfloat16 for a copy that is used under `torch.autocast` to it; by default
            the copy computes in the precision of the weights.
        use_kernel: Whether the kernel may be compiled and used.

    Raises:
        ZigguratError: If the model is in training mode, is such a copy already, or is to be for
            autocast to another precision.
    """
    if autocast not in (None, torch.bfloat16):
        raise ZigguratError(
            f"a model cannot be optimized for autocast to {autocast}; choose torch.bfloat16, or "
            "leave it out for the precision of the weights"
        )
    if any(isinstance(module, Optimized) for module in model.modules()):
        raise ZigguratError(
            "the model is already optimized for inference; optimize the plain model instead"
        )
    if any(module.training for module in model.modules()):
        raise ZigguratError(
            "the model is in training mode, and what is optimized for inference cannot be trained; "
            "call model.eval() first"
        )
    optimized = copy.deepcopy(model).requires_grad_(False)
    first = next(optimized.parameters(), torch.empty(0))
    is_cpu = first.device.type == "cpu" and first.dtype == torch.float32 and has_onednn()
    has_kernel = is_cpu and use_kernel and has_products(autocast or torch.float32)
    kernel = _kernel_or_warning() if has_kernel else None
    _Replacement(autocast or first.dtype, is_cpu, kernel).apply(optimized)
    optimized.register_load_state_dict_pre_hook(_refuse_to_load)
    return optimized


class Optimized(nn.Module):
    """A plain part of a model, and a faster way to compute the same.

    Args:
        plain: The part.
        fast: The faster way, with weights laid out anew.
        dtype: Precision of the faster way; another than that of the weights is for autocast.
    """

    holds_weights_anew = True
    """So that weights are not loaded into it."""

    def __init__(self, plain: nn.Module, fast: Callable[..., Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.plain = plain
        self.fast = fast
        weight = next(plain.parameters())
        self._device, self._dtype = weight.device, dtype
        self._is_for_autocast = dtype != weight.dtype
        self.training = False
        self.register_state_dict_post_hook(_drop_plain_from_names)
        self.register_load_state_dict_pre_hook(_refuse_to_load)

    @property
    def weight(self) -> Tensor:
        """Weights of the plain part, for layers that look into it."""
        return cast(Tensor, self.plain.weight)

    @property
    def bias(self) -> Tensor | None:
        """Bias of the plain part, if it has one."""
        return cast(Tensor | None, self.plain.bias)

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """Return what the plain part returns, up to rounding."""
        first = x if isinstance(x, Tensor) else x[0]
        y: Tensor = self.fast(x) if self._is_for(first) else self.plain(x)
        return y

    def train(self, mode: bool = True) -> "Optimized":
        """Stay in eval mode.

        Raises:
            ZigguratError: If training mode is asked for.
        """
        if mode:
            raise ZigguratError(
                "a model that is optimized for inference cannot be trained; train the plain model"
            )
        super().train(False)
        return self

    def _is_for(self, x: Tensor) -> bool:
        return (
            not torch.compiler.is_compiling()
            and x.device == self._device
            and not x.requires_grad
            and self._has_precision(x)
        )

    def _has_precision(self, x: Tensor) -> bool:
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            return self._is_for_autocast and torch.get_autocast_dtype(kind) == self._dtype
        return not self._is_for_autocast and x.dtype == self._dtype


@dataclass(frozen=True)
class _Replacement:
    """What the parts of a model are replaced with.

    Attributes:
        dtype: Precision of the faster way.
        is_cpu: Whether oneDNN computes.
        kernel: The compiled kernel, where there is one.
    """

    dtype: torch.dtype
    is_cpu: bool
    kernel: Kernel | None

    def apply(self, module: nn.Module) -> None:
        """Replace what lies inside a module and can be faster."""
        for name, child in module.named_children():
            fast = self._faster(child)
            if fast is not None:
                setattr(module, name, Optimized(child, fast, self.dtype))
            elif not isinstance(child, TimmBackbone):  # parts of others may look into each other
                self.apply(child)

    def _faster(self, module: nn.Module) -> Callable[..., Tensor] | None:
        if self.is_cpu:
            chain = describe(module)
            if chain is not None:
                return pack(chain, self.dtype, self.kernel)
        weights = fold(module) if type(module) in self._folded else None
        if weights is None:
            return None
        if isinstance(module, nn.Linear):
            return OneDnnLinear(weights.weight.flatten(1), weights.bias, self.dtype)
        if isinstance(module, Mixing):
            return FoldedMixing(weights, self._conv)
        return self._conv(weights)

    @property
    def _folded(self) -> tuple[type[nn.Module], ...]:
        if self.is_cpu and self.dtype != torch.float32:
            # Autocast would convert the weights of each of them in every call.
            return (ConvNorm, Mixing, nn.Conv2d, PointwiseConv, nn.Linear)
        return (ConvNorm, Mixing)

    def _conv(self, weights: Weights) -> Callable[..., Tensor]:
        return (OneDnnConv if self.is_cpu else FoldedConv)(weights, self.dtype)


def _kernel_or_warning() -> Kernel | None:
    try:
        return load_kernel()
    except KernelUnavailableError as error:
        warnings.warn(
            f"the feed-forward kernel is not used, {error}; the model is slower without it and "
            "computes the same (use_kernel=False says that this is meant)",
            stacklevel=3,
        )
        return None


def _drop_plain_from_names(
    module: nn.Module, entries: dict[str, Tensor], prefix: str, _: object
) -> None:
    for name in [name for name in entries if name.startswith(f"{prefix}plain.")]:
        entries[prefix + name.removeprefix(f"{prefix}plain.")] = entries.pop(name)


def _refuse_to_load(*_: object) -> None:
    raise ZigguratError(
        "weights cannot be loaded into a model that is optimized for inference, which holds them "
        "laid out anew; load them into the plain model and optimize that"
    )
