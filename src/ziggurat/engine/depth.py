"""The layers of a backbone from input to output: which of them learn slower, which not at all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from ziggurat.backbones.gpvit import GPViT
from ziggurat.backbones.gpvit_adapter import GPViTAdapter
from ziggurat.backbones.p2t import P2T
from ziggurat.backbones.pvt import PVT
from ziggurat.backbones.pvt_v2 import PVTv2
from ziggurat.backbones.resnet import ResNet
from ziggurat.backbones.topformer import TopFormer
from ziggurat.errors import ZigguratError
from ziggurat.timm_bridge.families import BLOCKS_PER_FEATURE, FAMILIES
from ziggurat.zoo import Model

Parts = Sequence[nn.Module]

LAYERS: dict[type[nn.Module], dict[str, Any]] = {
    **{kind: family.layers(False) for kind, family in FAMILIES.items()},
    GPViTAdapter: FAMILIES[GPViT].layers(False),
    ResNet: {"stem": r"^backbone\.stem", "blocks": r"^backbone\.stages\.(\d+)\.blocks\.(\d+)"},
}
"""Patterns that order parameters for timm's `group_parameters`: the stem, then a layer a block."""


def layer_factors(model: nn.Module, decay: float) -> dict[str, float]:
    """Return decay^n for each parameter that has n layers between itself and the heads.

    Clark et al., arXiv:2003.10555, as timm does it: what is behind the backbone learns at the full
    rate, and so do the parts that dense prediction adds to a backbone.

    Args:
        model: A model with a backbone.
        decay: Factor from a layer to the one before it.
    """
    backbone = model.get_submodule("backbone")
    layers = group_parameters(model, _of_kind(LAYERS, backbone, "layers"), reverse=True)
    last = max(layers.values())
    return {name: decay ** (last - layer) for name, layer in layers.items()}


def _stages(backbone: PVT | PVTv2 | P2T) -> list[Parts]:
    stages: list[Parts] = [[stage] for stage in backbone.stages]
    if isinstance(backbone, PVT) and backbone.norm is not None:
        stages[-1] = [*stages[-1], backbone.norm]
    return stages


def _stages_of_resnet(backbone: ResNet) -> list[Parts]:
    first, *others = backbone.stages
    return [[backbone.stem, first], *([stage] for stage in others)]


def _stages_of_gpvit(backbone: GPViT | GPViTAdapter) -> list[Parts]:
    # Every third block ends a stage, as for dense prediction; the adapter always learns.
    stages: list[Parts] = []
    for end in range(BLOCKS_PER_FEATURE, len(backbone.blocks) + 1, BLOCKS_PER_FEATURE):
        stages.append(list(backbone.blocks[end - BLOCKS_PER_FEATURE : end]))
        if isinstance(backbone, GPViT) and str(end - 1) in backbone.norms:
            stages[-1] = [*stages[-1], backbone.norms[str(end - 1)]]
    stages[0] = [backbone.patch_embed, *stages[0]]
    return stages


def _stages_of_topformer(backbone: TopFormer) -> list[Parts]:
    stages: list[Parts] = []
    begin = 0
    for end in backbone.pyramid.token_rows:
        stages.append(list(backbone.pyramid.layers[begin : end + 1]))
        begin = end + 1
    stages[0] = [backbone.pyramid.stem, *stages[0]]
    stages[-1] = [*stages[-1], *backbone.pyramid.layers[begin:]]
    return [*stages, list(backbone.blocks)]


STAGES: dict[type[nn.Module], Callable[[Any], list[Parts]]] = {
    **dict.fromkeys((PVT, PVTv2, P2T), _stages),
    **dict.fromkeys((GPViT, GPViTAdapter), _stages_of_gpvit),
    ResNet: _stages_of_resnet,
    TopFormer: _stages_of_topformer,
}
"""Modules of each stage, the stem in the first; TopFormer's fifth is its transformer."""


def freeze_stages(model: Model, count: int, say: Callable[[str], None]) -> list[nn.Module]:
    """Let the first stages of the backbone learn no more.

    Args:
        model: Its parameters are marked.
        count: Number of stages.
        say: Is told which.

    Returns:
        Their modules, which must stay in evaluation mode: what does not learn gathers no
        statistics and drops nothing.

    Raises:
        ZigguratError: If the backbone has fewer stages.
    """
    stages = _of_kind(STAGES, model.backbone, "stages")(model.backbone)
    if count > len(stages):
        raise ZigguratError(
            f"model.freeze_stages must be at most the {len(stages)} stages of the backbone "
            f"{model.identity.backbone}, got {count}"
        )
    frozen = [part for stage in stages[:count] for part in stage]
    parameters = [parameter for part in frozen for parameter in part.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(False)
    number = sum(parameter.numel() for parameter in parameters)
    which = "stage 1" if count == 1 else f"stages 1 to {count}"
    say(
        f"frozen: {which} of {len(stages)} of the backbone {model.identity.backbone}, "
        f"{number / 1e6:.1f} M parameters"
    )
    return frozen


def freeze_norms(model: Model, say: Callable[[str], None]) -> list[nn.Module]:
    """Let the batch norms of the backbone neither gather statistics nor learn.

    Detectors see too few images at once to gather statistics, so that those of ImageNet serve.

    Args:
        model: Its parameters are marked.
        say: Is told how many there are.

    Returns:
        The norms, which must stay in evaluation mode.

    Raises:
        ZigguratError: If the backbone has none.
    """
    norms = [part for part in model.backbone.modules() if isinstance(part, BatchNorm)]
    if not norms:
        raise ZigguratError(
            f"the backbone {model.identity.backbone} has no batch norms that learn; leave "
            "model.freeze_norms out"
        )
    for norm in norms:
        norm.requires_grad_(False)
    say(f"frozen: the {len(norms)} batch norms of the backbone {model.identity.backbone}")
    return [*norms]


def _of_kind(table: Mapping[type[nn.Module], Any], backbone: nn.Module, what: str) -> Any:  # noqa: ANN401  whatever is in the table
    if type(backbone) not in table:
        known = ", ".join(kind.__name__ for kind in table)
        raise ZigguratError(
            f"the {what} of a {type(backbone).__name__} are not known, only those of {known}; "
            "leave model.freeze_stages and optimizer.layer_decay out"
        )
    return table[type(backbone)]
