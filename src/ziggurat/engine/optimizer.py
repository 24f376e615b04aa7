"""Which parameters decay, at which learning rate, and the optimizer of it all."""

from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from ziggurat.config.tree import OptimizerConfig
from ziggurat.errors import ZigguratError


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
    """Divide the trainable parameters by whether they decay; every one is in exactly one group.

    Args:
        model: The model.
        config: Weight decay and what it applies to.

    Raises:
        ZigguratError: If nothing can be trained.
    """
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # Norms' scales and all biases are vectors, with no product whose size decay would limit.
        is_vector = parameter.ndim <= 1 or name.endswith(".bias")
        (others if is_vector and config.decay == "matrices" else decaying).append(parameter)
    if not decaying and not others:
        raise ZigguratError("the model has no parameter that can be trained")
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, lr: float, *, is_fused: bool
) -> Optimizer:
    """Build the optimizer of a run.

    Args:
        model: The model.
        config: Decay and betas.
        lr: Learning rate, already scaled.
        is_fused: Whether one kernel updates all parameters, several times as fast; not with
            fp16, whose gradients Lightning must see before they are unscaled.
    """
    return AdamW(parameter_groups(model, config), lr=lr, betas=config.betas, fused=is_fused)
