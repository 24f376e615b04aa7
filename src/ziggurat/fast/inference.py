"""A copy of a model that predicts sooner: parts of it replaced, by type.

What is replaced keeps the plain part inside: its entries have the same names, and it takes over
whenever the faster way is not for the input (another device or precision, autocast, gradients,
export, `torch.compile`).
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ziggurat.backbones.timm_backbone import TimmBackbone
from ziggurat.errors import ZigguratError
from ziggurat.fast.chains import describe, pack
from ziggurat.fast.compiler import KernelUnavailableError
from ziggurat.fast.inference_kernel import Kernel, load_kernel
from ziggurat.fast.layers import (
    FoldedConv,
    FoldedMixing,
    OneDnnConv,
    fold,
    has_onednn,
)
from ziggurat.heads.segformer import Mixing
from ziggurat.layers.conv_norm import ConvNorm

AnyModel = TypeVar("AnyModel", bound=nn.Module)


def optimize_for_inference(model: AnyModel, *, use_kernel: bool = True) -> AnyModel:
    """Return a copy of a model that computes the same sooner, and cannot be trained.

    Batch norms are folded into the convolutions in front of them. On the CPU, in float32, blocks
    that are chains of convolutions include their activations, and the feed-forward blocks of P2T
    and PVT v2 run through a kernel that is compiled at its first use. Outputs differ by rounding,
    on the CPU relatively by less than 2e-5. The copy holds the weights of what is replaced twice,
    as they are and laid out anew. Where the kernel cannot be built, a warning says why, and the
    copy works without it.

    Args:
        model: A classifier, detector or backbone, in eval mode, on the device it will run on.
        use_kernel: Whether the kernel may be compiled and used.

    Raises:
        ZigguratError: If the model is in training mode or is such a copy already.
    """
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
    kernel = _kernel_or_warning() if is_cpu and use_kernel else None
    _replace_children(optimized, is_cpu, kernel)
    optimized.register_load_state_dict_pre_hook(_refuse_to_load)
    return optimized


class Optimized(nn.Module):
    """A plain part of a model, and a faster way to compute the same.

    Args:
        plain: The part.
        fast: The faster way, with weights laid out anew.
    """

    def __init__(self, plain: nn.Module, fast: Callable[..., Tensor]) -> None:
        super().__init__()
        self.plain = plain
        self.fast = fast
        weight = next(plain.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        self.training = False
        self.register_state_dict_post_hook(_drop_plain_from_names)
        self.register_load_state_dict_pre_hook(_refuse_to_load)

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
            and x.dtype == self._dtype
            and x.device == self._device
            and not x.requires_grad
            and not torch.is_autocast_enabled(x.device.type)
        )


def _replace_children(module: nn.Module, is_cpu: bool, kernel: Kernel | None) -> None:
    for name, child in module.named_children():
        fast = _faster(child, is_cpu, kernel)
        if fast is not None:
            setattr(module, name, Optimized(child, fast))
        elif not isinstance(child, TimmBackbone):  # parts of others may look into each other
            _replace_children(child, is_cpu, kernel)


def _faster(module: nn.Module, is_cpu: bool, kernel: Kernel | None) -> Callable[..., Tensor] | None:
    if is_cpu:
        chain = describe(module)
        if chain is not None:
            return pack(chain, kernel)
    weights = fold(module) if type(module) in (ConvNorm, Mixing) else None
    if weights is None:
        return None
    prepare = OneDnnConv if is_cpu else FoldedConv
    return FoldedMixing(weights, prepare) if isinstance(module, Mixing) else prepare(weights)


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
