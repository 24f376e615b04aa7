"""Names to models: the only place where a string becomes an object.

Published models are listed in `cards.py`; `create_model` also builds any combination that no one
has published.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

from torch import nn

from ziggurat.backbones import gpvit, gpvit_adapter, p2t, pvt, pvt_v2, resnet, topformer
from ziggurat.backbones.timm_backbone import TimmBackbone
from ziggurat.cards import MODELS
from ziggurat.errors import ZigguratError, did_you_mean
from ziggurat.heads.linear import (
    AveragePool,
    ClassTokenPool,
    GroupTokenPool,
    LinearHead,
    NormalizedAveragePool,
)
from ziggurat.models.classifier import Classifier, Trunk
from ziggurat.models.detector import Detector
from ziggurat.necks.stride_pyramid import StridePyramid
from ziggurat.systems import DENSE_STRIDES, SYSTEMS, Edition, System
from ziggurat.types import CenterCrop, FitInside, ModelIdentity, Task

Model = Classifier | Detector
Backbone = Trunk | gpvit_adapter.GPViTAdapter | resnet.ResNet | TimmBackbone


class BackboneBuilder(Protocol):
    """Builds a variant of a family."""

    def __call__(self, *, drop_path_rate: float = 0.0, in_channels: int = 3) -> Backbone:
        """Build it with fresh weights."""


class TrunkBuilder(Protocol):
    """Builds a variant as its family classifies with it."""

    def __call__(self, *, drop_path_rate: float = 0.0, in_channels: int = 3) -> Trunk:
        """Build it with fresh weights."""


PVTS = (pvt.pvt_tiny, pvt.pvt_small, pvt.pvt_medium, pvt.pvt_large, pvt.pvt_huge_v2)
PVT_V2S = (
    pvt_v2.pvt_v2_b0,
    pvt_v2.pvt_v2_b1,
    pvt_v2.pvt_v2_b2,
    pvt_v2.pvt_v2_b2_li,
    pvt_v2.pvt_v2_b3,
    pvt_v2.pvt_v2_b4,
    pvt_v2.pvt_v2_b5,
)
P2TS = (p2t.p2t_tiny, p2t.p2t_small, p2t.p2t_medium, p2t.p2t_base, p2t.p2t_large)
TOPFORMERS = (topformer.topformer_tiny, topformer.topformer_small, topformer.topformer_base)
GPVITS = (gpvit.gpvit_l1, gpvit.gpvit_l2, gpvit.gpvit_l3, gpvit.gpvit_l4)
GPVIT_ADAPTERS = (
    gpvit_adapter.gpvit_l1_adapter,
    gpvit_adapter.gpvit_l2_adapter,
    gpvit_adapter.gpvit_l3_adapter,
    gpvit_adapter.gpvit_l4_adapter,
)
RESNETS = (resnet.resnet50, resnet.resnet101, resnet.resnet152, resnet.resnext101_32x8d)

BACKBONES: dict[str, BackboneBuilder] = {
    build.__name__: build
    for build in (*PVTS, *PVT_V2S, *P2TS, *TOPFORMERS, *GPVITS, *GPVIT_ADAPTERS, *RESNETS)
}
"""Images to a pyramid of maps, for dense prediction."""

TRUNKS: dict[str, TrunkBuilder] = {
    **{build.__name__: partial(build, use_class_token=True) for build in PVTS},
    **{build.__name__: build for build in (*PVT_V2S, *P2TS)},
    **{build.__name__: partial(build, use_injection=False) for build in TOPFORMERS},
    **{build.__name__: partial(build, out_indices=(11,)) for build in GPVITS},
}
"""Images to what the head of a classifier reads."""

POOLS: dict[str, Callable[[int], nn.Module]] = {
    **{build.__name__: lambda _: ClassTokenPool() for build in PVTS},
    **{build.__name__: NormalizedAveragePool for build in TOPFORMERS},
    **{build.__name__: partial(GroupTokenPool, num_heads=6) for build in GPVITS[:2]},
}
"""How a classifier makes one vector of an image, where it is not the mean over the map."""

TIMM_PREFIX = "timm:"
"""In front of the name of any network of timm, which is a backbone then."""

NECKS = ("fpn",)

NUM_CLASSES: dict[Task, int] = {
    "classification": 1000,
    "detection": 80,
    "instance_segmentation": 80,
}
"""Classes of ImageNet-1k and COCO, which the published models have."""

SINGLE_STAGE_ADAPTERS = {
    build.__name__: partial(build, is_single_stage=True) for build in GPVIT_ADAPTERS
}
"""GPViT's adapters without the map of stride 4, which dense heads do not read."""

HEAD_CHANNELS = 256
HEAD_DEPTH = 4


def list_models(*, task: str | None = None) -> list[str]:
    """Return the names of the published models, of one task if given.

    Args:
        task: "classification", "detection" or "instance_segmentation"; an unknown task is a
            `ZigguratError`.
    """
    if task is not None:
        check_known("task", task, NUM_CLASSES)
    return [name for name, card in MODELS.items() if task in (None, card.task)]


def create_backbone(name: str, *, drop_path_rate: float = 0.0, in_channels: int = 3) -> Backbone:
    """Build a backbone: images (B, 3, H, W) to a list of maps (B, C_i, H_i, W_i).

    Args:
        name: Name of the backbone, for example "p2t_small", or of any network of timm:
            "timm:convnext_tiny".
        drop_path_rate: Stochastic depth of its last block; it grows linearly from 0.
        in_channels: Channels of the images.

    An unknown name, or a number out of range, is a `ZigguratError`.
    """
    _check_numbers(drop_path_rate, in_channels)
    if name.startswith(TIMM_PREFIX):
        return TimmBackbone(
            name.removeprefix(TIMM_PREFIX), drop_path_rate=drop_path_rate, in_channels=in_channels
        )
    check_known("backbone", name, BACKBONES)
    return BACKBONES[name](drop_path_rate=drop_path_rate, in_channels=in_channels)


def create_classifier_parts(
    name: str, num_classes: int, *, drop_path_rate: float = 0.0, in_channels: int = 3
) -> tuple[Trunk, LinearHead]:
    """Build a backbone as its family classifies with it, and the head that goes with it.

    Args:
        name: Name of the backbone.
        num_classes: Number of classes.
        drop_path_rate: Stochastic depth of its last block; it grows linearly from 0.
        in_channels: Channels of the images.

    An unknown name, or a number out of range, is a `ZigguratError`.
    """
    check_known("classification backbone", name, TRUNKS)
    _check_numbers(drop_path_rate, in_channels)
    trunk = TRUNKS[name](drop_path_rate=drop_path_rate, in_channels=in_channels)
    return trunk, create_linear_head(name, trunk.num_features, num_classes)


def create_linear_head(name: str, in_channels: int, num_classes: int) -> LinearHead:
    """Build the head of a classifier.

    Args:
        name: Name of the backbone.
        in_channels: Length of the vector that the backbone's features make.
        num_classes: Number of classes.
    """
    pool = POOLS[name](in_channels) if name in POOLS else AveragePool()
    return LinearHead(pool, in_channels, num_classes)


def _check_numbers(drop_path_rate: float, in_channels: int) -> None:
    if not 0 <= drop_path_rate < 1:
        raise ZigguratError(f"drop_path_rate must be in [0, 1), got {drop_path_rate}")
    if in_channels < 1:
        raise ZigguratError(f"in_channels must be at least 1, got {in_channels}")


def create_model(
    name: str,
    *,
    backbone: str | None = None,
    neck: str | None = None,
    num_classes: int | None = None,
    head_channels: int | None = None,
    head_depth: int | None = None,
    drop_path_rate: float | None = None,
) -> Model:
    """Build a model with fresh weights.

    Args:
        name: A published name ("p2t_small", "mask_rcnn_p2t_small"), or a system ("mask_rcnn")
            together with `backbone`.
        backbone: Backbone of a system; a published name has its own.
        neck: Neck of a system, by default the one that it was published with.
        num_classes: Number of classes; by default as published, 1000 or 80.
        head_channels: Width of neck and head of a detector; 256 as published.
        head_depth: Convolutions of each tower of a dense detector's head; 4 as published.
        drop_path_rate: Stochastic depth of the last block; by default as published.

    Raises:
        ZigguratError: If a name is unknown, a number is out of range, or an option does not
            belong to the model.
    """
    published = MODELS.get(name)
    if published is None and name not in SYSTEMS:
        check_known("model", name, [*MODELS, *SYSTEMS])
    if published is not None and backbone is not None:
        raise ZigguratError(
            f"{name!r} has its own backbone, got backbone={backbone!r} as well; name the system "
            f"({', '.join(SYSTEMS)}) to combine it with another backbone"
        )
    if published is None and backbone is None:
        raise ZigguratError(
            f"{name!r} is a system and needs backbone=..., for example "
            f"create_model({name!r}, backbone='p2t_tiny'); the backbones are {', '.join(BACKBONES)}"
        )
    task: Task = SYSTEMS[name].task if published is None else published.task
    system = name if published is None else published.system
    chosen = backbone if published is None else published.backbone
    assert chosen is not None
    if task == "classification":
        _refuse(name, "classifier", neck=neck, head_channels=head_channels, head_depth=head_depth)
    else:
        neck = _neck_of(system, neck)
        head_channels = HEAD_CHANNELS if head_channels is None else head_channels
        if SYSTEMS[system].has_depth:
            head_depth = HEAD_DEPTH if head_depth is None else head_depth
        else:
            _refuse(name, "detector without towers", head_depth=head_depth)
    if drop_path_rate is None:
        # Transformers are trained with it; ResNets and most networks of timm are not.
        usual = 0.1 if chosen in TRUNKS else 0.0
        drop_path_rate = usual if published is None else published.drop_path_rate
    identity = ModelIdentity(
        task=task,
        system=system,
        backbone=chosen,
        num_classes=NUM_CLASSES[task] if num_classes is None else num_classes,
        neck=neck,
        head_channels=head_channels,
        head_depth=head_depth,
    )
    return build(identity, drop_path_rate=drop_path_rate)


def build(identity: ModelIdentity, *, drop_path_rate: float = 0.0) -> Model:
    """Build the model of an identity; `build(model.identity)` has the entries of `model`.

    Args:
        identity: What the model is.
        drop_path_rate: Stochastic depth of the last block; it matters in training only.

    Raises:
        ZigguratError: If the identity names parts that do not exist or impossible numbers.
    """
    if identity.num_classes < 1:
        raise ZigguratError(f"num_classes must be at least 1, got {identity.num_classes}")
    check_known("task", identity.task, NUM_CLASSES)
    classes = tuple(f"class_{i}" for i in range(identity.num_classes))
    if identity.task == "classification":
        trunk, linear = create_classifier_parts(
            identity.backbone, identity.num_classes, drop_path_rate=drop_path_rate
        )
        return Classifier(
            trunk, linear, identity=identity, classes=classes, preprocessing=CenterCrop()
        )
    check_known("system", identity.system, SYSTEMS)
    system = SYSTEMS[identity.system]
    channels, depth = identity.head_channels, identity.head_depth
    if channels is None or channels < 1 or (depth is None) == system.has_depth or (depth or 0) < 0:
        raise ZigguratError(
            f"{identity.system} needs head_channels >= 1 and head_depth "
            f"{'>= 0' if system.has_depth else 'None'}, got {channels} and {depth}"
        )
    if identity.task != system.task or identity.neck != _neck_of(identity.system, identity.neck):
        raise ZigguratError(
            f"{identity.system} does {system.task} with neck={system.neck!r}, got "
            f"{identity.task} with neck={identity.neck!r}"
        )
    backbone = _detection_backbone(identity.backbone, system, drop_path_rate)
    pyramid = _pyramid(backbone, system)
    parts = system.build(
        backbone if pyramid is None else pyramid,
        identity.num_classes,
        channels=channels,
        depth=depth or 0,
        edition=_edition(identity.backbone),
    )
    return Detector(
        backbone,
        parts.neck,
        parts.head,
        pyramid=nn.Identity() if pyramid is None else pyramid,
        identity=identity,
        classes=classes,
        preprocessing=FitInside(),
    )


def _edition(backbone: str) -> Edition:
    """Return whose rules a detector follows: those that its backbone was published with."""
    editions: dict[str, Edition] = {"gpvit": "2.25", "p2t": "2.14"}
    return editions.get(backbone.split("_")[0], "2.13")


def _neck_of(system: str, neck: str | None) -> str | None:
    """Return the neck of a system: its own, or another one that it can have.

    Raises:
        ZigguratError: If the system can have no neck, or the neck is unknown.
    """
    own = SYSTEMS[system].neck
    if neck is None or neck == own:
        return own
    if own is None:
        raise ZigguratError(
            f"{system!r} reads the backbone's last map and has no neck; leave it out"
        )
    check_known("neck", neck, NECKS)
    return neck


def _detection_backbone(name: str, system: System, drop_path_rate: float) -> Backbone:
    builders: Mapping[str, BackboneBuilder] = SINGLE_STAGE_ADAPTERS
    if name in builders and system.strides == DENSE_STRIDES:
        return builders[name](drop_path_rate=drop_path_rate)
    return create_backbone(name, drop_path_rate=drop_path_rate)


def _pyramid(backbone: Backbone, system: System) -> StridePyramid | None:
    """Return what makes the maps that a system reads, or None where the backbone gives them."""
    if system.neck is None:  # the last map, whatever its stride
        return None
    given, wanted = tuple(backbone.out_strides), system.strides
    if given in (wanted, (4, 8, 16, 32)):
        return None
    return StridePyramid(backbone.out_channels, given, wanted)


def check_known(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise unless a name is known, with the nearest name in the message.

    Raises:
        ZigguratError: If the name is unknown.
    """
    names = list(known)
    if name not in names:
        hint = did_you_mean(name, names, f"known are {', '.join(names)}")
        raise ZigguratError(f"unknown {kind} {name!r}; {hint}")


def _refuse(name: str, kind: str, **options: object) -> None:
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise ZigguratError(f"{name!r} is a {kind} and has no {', '.join(given)}; leave it out")
