"""Which parameters decay, at which learning rate, and the optimizer of it all."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ziggurat.config.optimizer import NoDecay, OptimizerConfig
from ziggurat.engine.depth import layer_factors
from ziggurat.errors import ZigguratError
from ziggurat.heads.segformer import Mixing
from ziggurat.layers.conv_norm import ConvNorm

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
POSITIONS = ("pos_embed", "level_embed")
"""Names of what is learned for each cell of a grid, or for each level of a pyramid."""
TOKENS = ("cls_token", "group_token")
LAST_NORMS = ("backbone.norm", "backbone.norms.11")
"""Norm of what a backbone gives last; GPViT has twelve layers and norms some of them."""


def scaled_lr(config: OptimizerConfig, images_per_step: int) -> float:
    """Return the learning rate for a number of images a step (Goyal et al., arXiv:1706.02677).

    Args:
        config: Learning rate and the batch it is meant for.
        images_per_step: Images of one optimizer step over all devices.
    """
    if config.reference_batch is None:
        return config.lr
    return config.lr * images_per_step / config.reference_batch


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Divide the trainable parameters by decay and by learning rate; each is in exactly one group.

    A group also says by which factor its learning rate differs, as "lr_factor".

    Args:
        model: The model.
        config: Weight decay, what it leaves alone, and the learning rates of the parts.

    Raises:
        ZigguratError: If nothing can be trained.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    layers = {} if config.layer_decay is None else layer_factors(model, config.layer_decay)
    for name, parameter, kinds in _with_kinds(model):
        is_head = name.startswith(("head.", "auxiliary_head."))
        factor = config.head_lr_factor if is_head else 1.0
        if name.startswith("backbone."):
            factor = config.backbone_lr_factor
        if "biases" in kinds:
            factor *= config.bias_lr_factor
        factor *= layers.get(name, 1.0)
        decays = kinds.isdisjoint(config.no_decay) or (is_head and config.head_decays)
        groups.setdefault((factor, decays), []).append(parameter)
    if not groups:
        raise ZigguratError("the model has no parameter that can be trained")
    return [
        {
            "params": groups[factor, decays],
            "weight_decay": config.weight_decay if decays else 0.0,
            "lr_factor": factor,
        }
        for factor, decays in sorted(groups, reverse=True)
    ]


def _with_kinds(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, set[NoDecay]]]:
    """Go through the trainable parameters.

    Yields:
        Name of a parameter, the parameter, and the kinds that it belongs to.
    """
    modules = dict(model.named_modules())
    # The norm of a convolution scales its weights, and decays with them in most published runs.
    inside = {
        id(module.norm) for module in modules.values() if isinstance(module, ConvNorm | Mixing)
    }
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        owner, _, own_name = name.rpartition(".")
        module = modules[owner]
        kinds: set[NoDecay] = set()
        if own_name.endswith("bias"):
            kinds |= {"biases", "vectors"}
            if not (isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1):
                kinds.add("dense_biases")
        if parameter.ndim <= 1:  # no product whose size decay would limit
            kinds.add("vectors")
        if isinstance(module, NORMS):
            kinds.add("conv_norms" if id(module) in inside else "norms")
            if id(module) not in inside and owner not in LAST_NORMS:
                kinds.add("inner_norms")
        if own_name in POSITIONS:
            kinds.add("positions")
        if own_name in TOKENS:
            kinds.add("tokens")
        yield name, parameter, kinds


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, lr: float, *, is_fused: bool
) -> Optimizer:
    """Build the optimizer of a run.

    Args:
        model: The model.
        config: Kind, decay, and factors of the learning rate.
        lr: Learning rate, already scaled.
        is_fused: Whether one kernel updates all parameters, several times as fast; not with
            fp16, whose gradients Lightning must see before they are unscaled.
    """
    groups = parameter_groups(model, config)
    for group in groups:
        group["lr"] = lr * group["lr_factor"]
    if config.kind == "sgd":
        momentum = 0.9 if config.momentum is None else config.momentum
        return SGD(groups, lr=lr, momentum=momentum, fused=is_fused)
    return AdamW(groups, lr=lr, betas=config.betas or (0.9, 0.999), fused=is_fused)
