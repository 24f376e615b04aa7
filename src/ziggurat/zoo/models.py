"""Whole models by name: a published one, or a system on any backbone."""

from collections.abc import Mapping
from dataclasses import asdict, replace

from torch import nn

from ziggurat.backbones.timm_backbone import TimmBackbone
from ziggurat.cards import MODELS
from ziggurat.errors import ZigguratError, check_known
from ziggurat.models.classifier import Classifier
from ziggurat.models.detector import Detector
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.necks.stride_pyramid import StridePyramid
from ziggurat.preprocessing import CenterCrop, FitAligned, FitInside
from ziggurat.systems import SYSTEMS, DetectionSystem, SegmentationSystem
from ziggurat.systems.detection import DENSE_STRIDES
from ziggurat.systems.necks import FPT_FORMULAS
from ziggurat.systems.plan import Plan
from ziggurat.systems.pyramid import Pyramid
from ziggurat.systems.segmentation import PYRAMID_STRIDES, build_auxiliary_head
from ziggurat.types import UNLABELLED, ModelIdentity, Task
from ziggurat.zoo.backbones import (
    BACKBONES,
    SINGLE_STAGE_ADAPTERS,
    TOPFORMERS,
    TRUNKS,
    Backbone,
    BackboneBuilder,
    create_backbone,
    create_classifier_parts,
    pixels_of,
)
from ziggurat.zoo.names import combination_of, necks_of, refuse_unknown

Model = Classifier | Detector | SemanticSegmenter

NUM_CLASSES: dict[Task, int] = {
    "classification": 1000,
    "detection": 80,
    "instance_segmentation": 80,
    "keypoint_detection": 1,
    "semantic_segmentation": 150,
}
"""Classes of ImageNet-1k, COCO, COCO's persons and ADE20K, which the published models have."""

NUM_KEYPOINTS = 17

HEAD_CHANNELS = 256
HEAD_DEPTH = 4

FINE_ENOUGH = 8
"""Coarsest stride of a backbone's finest map that a segmenter reads as it is."""


def list_models(*, task: str | None = None) -> list[str]:
    """Return the names of the published models, of one task if given.

    Args:
        task: "classification", "detection", "instance_segmentation", "keypoint_detection" or
            "semantic_segmentation"; an unknown task is a `ZigguratError`.
    """
    if task is not None:
        check_known("task", task, NUM_CLASSES)
    return [name for name, card in MODELS.items() if task in (None, card.task)]


def create_model(
    name: str,
    *,
    backbone: str | None = None,
    neck: str | None = None,
    num_classes: int | None = None,
    head_channels: int | None = None,
    head_depth: int | None = None,
    drop_path_rate: float | None = None,
    overlapping: bool = False,
    key_budget: int | None = None,
    self_levels: int | None = None,
    grounding_window: int | None = None,
    drop_block: float = 0.0,
    num_keypoints: int | None = None,
    auxiliary_head: bool | None = None,
) -> Model:
    """Build a model with fresh weights.

    Args:
        name: A published name ("p2t_small", "mask_rcnn_p2t_small"), that of any other combination
            ("mask_rcnn_resnet50", "atss_fpt_pvt_v2_b0", "retinanet_timm:resnet18"), or a system
            ("mask_rcnn") together with `backbone`.
        backbone: Backbone of a system; the other names have their own.
        neck: Neck of a system, by default the one that it was published with.
        num_classes: Number of classes; by default as published, 1000, 80 or 150, or 1 (person).
        head_channels: Width of neck and head; by default as published.
        head_depth: Convolutions of each tower of a dense detector's head; 4 as published.
        drop_path_rate: Stochastic depth of the last block; by default as published.
        overlapping: Whether a segmenter's classes may overlap: a pixel is asked for each class by
            itself, and results are a mask for each.
        key_budget: Most keys that a pixel of a Feature Pyramid Transformer reads in a softmax; by
            default all. It bounds the cost, and changes results.
        self_levels: How many of the coarsest maps look at themselves in such a neck; by default
            all. On the finest that costs most; without it the model is another one.
        grounding_window: Side of the square, in pixels, that a pixel of such a neck reads of each
            coarser map; by default the whole map, and 5 in segmenters with "fpt_paper".
        drop_block: Share of what such a neck's transformers found that training sets to 0, in
            squares.
        num_keypoints: Points of each object that a keypoint detector finds; 17 as published.
        auxiliary_head: Whether a segmenter has a head on a map of its backbone that helps it in
            training alone; by default as published, UPerNet with one and the others without.

    Raises:
        ZigguratError: If a name is unknown, a number is out of range, or an option does not
            belong to the model.
    """
    task = task_of(name)
    named = MODELS.get(name) or combination_of(name)
    if named is not None and backbone is not None:
        raise ZigguratError(
            f"{name!r} has its own backbone, got backbone={backbone!r} as well; name the system "
            f"({', '.join(SYSTEMS)}) to combine it with another backbone"
        )
    if named is None and backbone is None:
        raise ZigguratError(
            f"{name!r} is a system and needs backbone=..., for example "
            f"create_model({name!r}, backbone='p2t_tiny'); the backbones are {', '.join(BACKBONES)}"
        )
    system = name if named is None else named.system
    chosen = backbone if named is None else named.backbone
    assert chosen is not None
    if task == "classification":
        _refuse(name, "classifier", neck=neck, head_channels=head_channels, head_depth=head_depth)
    else:
        if named is not None and neck is None:
            neck = named.neck
        neck = _neck_of(system, neck)
        head_channels = _width_of(system, chosen) if head_channels is None else head_channels
        if SYSTEMS[system].has_depth:
            head_depth = HEAD_DEPTH if head_depth is None else head_depth
        else:
            _refuse(name, "model without towers", head_depth=head_depth)
    if task == "keypoint_detection":
        num_keypoints = NUM_KEYPOINTS if num_keypoints is None else num_keypoints
    else:
        _refuse(name, "model without keypoints", num_keypoints=num_keypoints)
    identity = ModelIdentity(
        task=task,
        system=system,
        backbone=chosen,
        num_classes=NUM_CLASSES[task] if num_classes is None else num_classes,
        neck=neck,
        head_channels=head_channels,
        head_depth=head_depth,
        overlapping=overlapping,
        key_budget=key_budget,
        self_levels=self_levels,
        grounding_window=grounding_window,
        num_keypoints=num_keypoints,
        auxiliary_head=auxiliary_head,
    )
    # Whatever it was called by: a name, or a system with a backbone.
    published = MODELS.get(identity.name)
    if published is not None and published.num_classes is not None and num_classes is None:
        identity = replace(identity, num_classes=published.num_classes)
    if drop_path_rate is None:
        # Transformers are trained with it; ResNets and most networks of timm are not.
        usual = 0.1 if chosen in TRUNKS or chosen in SINGLE_STAGE_ADAPTERS else 0.0
        drop_path_rate = usual if published is None else published.drop_path_rate
    return build(identity, drop_path_rate=drop_path_rate, drop_block=drop_block)


def task_of(name: str) -> Task:
    """Return what a model or a system does.

    Args:
        name: Its name; an unknown one is a `ZigguratError`.
    """
    if name in MODELS:
        return MODELS[name].task
    if name in SYSTEMS:
        return SYSTEMS[name].task
    combination = combination_of(name)
    if combination is None:
        refuse_unknown(name, SYSTEMS)
    return SYSTEMS[combination.system].task


def build(
    identity: ModelIdentity, *, drop_path_rate: float = 0.0, drop_block: float = 0.0
) -> Model:
    """Build the model of an identity; `build(model.identity)` has the entries of `model`.

    Args:
        identity: What the model is.
        drop_path_rate: Stochastic depth of the last block; it matters in training only.
        drop_block: Share of what a Feature Pyramid Transformer found that training sets to 0.

    Raises:
        ZigguratError: If the identity names parts that do not exist or impossible numbers.
    """
    _check_transformer(identity, drop_block)
    if identity.num_classes < 1:
        raise ZigguratError(f"num_classes must be at least 1, got {identity.num_classes}")
    check_known("task", identity.task, NUM_CLASSES)
    if identity.task == "semantic_segmentation" and identity.num_classes > UNLABELLED:
        raise ZigguratError(
            f"a segmenter has at most {UNLABELLED} classes, got {identity.num_classes}: label maps "
            f"have a byte for each pixel, and {UNLABELLED} stands for unlabelled"
        )
    if identity.overlapping and identity.task != "semantic_segmentation":
        raise ZigguratError(
            f"overlapping classes are for semantic_segmentation, and {identity.name} does "
            f"{identity.task}; leave it out"
        )
    if identity.auxiliary_head is not None and identity.task != "semantic_segmentation":
        raise ZigguratError(
            f"auxiliary_head is for semantic_segmentation, and {identity.name} does "
            f"{identity.task}; leave it out"
        )
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
    num_keypoints, has_keypoints = identity.num_keypoints, system.task == "keypoint_detection"
    is_none = num_keypoints is None
    if has_keypoints == is_none or (num_keypoints is not None and num_keypoints < 1):
        raise ZigguratError(
            f"{identity.system} needs num_keypoints {'>= 1' if has_keypoints else 'None'}, got "
            f"{num_keypoints}"
        )
    plan = Plan(
        identity.backbone,
        identity.num_classes,
        channels,
        depth=depth or 0,
        neck=identity.neck,
        key_budget=identity.key_budget,
        self_levels=identity.self_levels,
        grounding_window=identity.grounding_window,
        drop_block=drop_block,
        drop_path_rate=drop_path_rate,
        num_keypoints=num_keypoints,
    )
    if isinstance(system, SegmentationSystem):
        return _segmenter(identity, system, plan, classes, drop_path_rate)
    return _detector(identity, system, plan, classes, drop_path_rate)


def _detector(
    identity: ModelIdentity,
    system: DetectionSystem,
    plan: Plan,
    classes: tuple[str, ...],
    drop_path_rate: float,
) -> Detector:
    adapters: Mapping[str, BackboneBuilder] = SINGLE_STAGE_ADAPTERS
    if identity.backbone in adapters and system.strides == DENSE_STRIDES:
        backbone = adapters[identity.backbone](drop_path_rate=drop_path_rate)
    else:
        backbone = _any_size_backbone(identity, drop_path_rate)
    # The last map, whatever its stride, is all that a system without a neck reads.
    pyramid = None if system.neck is None else _pyramid(backbone, system.strides)
    parts = system.build(backbone if pyramid is None else pyramid, plan)
    return Detector(
        backbone,
        parts.neck,
        parts.head,
        pyramid=nn.Identity() if pyramid is None else pyramid,
        identity=identity,
        classes=classes,
        preprocessing=FitInside(**asdict(pixels_of(identity.backbone))),
    )


def _segmenter(
    identity: ModelIdentity,
    system: SegmentationSystem,
    plan: Plan,
    classes: tuple[str, ...],
    drop_path_rate: float,
) -> SemanticSegmenter:
    pyramid = None
    if system.injects and identity.backbone in INJECTED:
        build_injected = INJECTED[identity.backbone]
        backbone: Backbone = build_injected(
            drop_path_rate=drop_path_rate, injection_channels=plan.channels
        )
    else:
        backbone = _any_size_backbone(identity, drop_path_rate)
        wanted = system.strides
        if wanted is None and backbone.out_strides[0] > FINE_ENOUGH:
            wanted = PYRAMID_STRIDES
        pyramid = None if wanted is None else _pyramid(backbone, wanted)
    maps: Pyramid = backbone if pyramid is None else pyramid
    parts = system.build(maps, plan)
    return SemanticSegmenter(
        backbone,
        parts.neck,
        parts.head,
        build_auxiliary_head(system, maps, plan, wanted=identity.auxiliary_head),
        pyramid=nn.Identity() if pyramid is None else pyramid,
        identity=identity,
        classes=classes,
        preprocessing=FitAligned(**asdict(pixels_of(identity.backbone))),
    )


def _any_size_backbone(identity: ModelIdentity, drop_path_rate: float) -> Backbone:
    """Build a backbone for a model whose images differ in size.

    Raises:
        ZigguratError: If it takes images of one size only.
    """
    backbone = create_backbone(identity.backbone, drop_path_rate=drop_path_rate)
    if isinstance(backbone, TimmBackbone) and backbone.only_size is not None:
        height, width = backbone.only_size
        raise ZigguratError(
            f"{identity.backbone!r} takes images of {height} x {width} pixels only, and those of a "
            f"{identity.system} differ in size; choose a network that takes any size"
        )
    return backbone


INJECTED = {build.__name__: build for build in TOPFORMERS}
"""Backbones that inject semantics into their maps themselves, at a width that can be chosen."""


def _width_of(system: str, backbone: str) -> int:
    """Return the width of neck and head as published."""
    chosen = SYSTEMS[system]
    if isinstance(chosen, DetectionSystem):
        return HEAD_CHANNELS
    return chosen.widths.get(backbone, chosen.channels)


def _neck_of(system: str, neck: str | None) -> str | None:
    """Return the neck of a system: its own, or another one that it can have.

    Raises:
        ZigguratError: If the system can have no neck, or not this one, or it is unknown.
    """
    own, *others = necks_of(system)
    if neck is None or neck == own:
        return own
    if not others:
        raise ZigguratError(f"{system!r} reads the backbone's maps and has no neck; leave it out")
    check_known("neck", neck, [known for known in (own, *others) if known is not None])
    return neck


def _pyramid(backbone: Backbone, wanted: tuple[int, ...]) -> StridePyramid | None:
    """Return what makes the maps that a system reads, or None where the backbone gives them."""
    given = tuple(backbone.out_strides)
    if given in (wanted, PYRAMID_STRIDES):
        return None
    return StridePyramid(backbone.out_channels, given, wanted)


def _check_transformer(identity: ModelIdentity, drop_block: float) -> None:
    """Refuse numbers of a Feature Pyramid Transformer that are impossible, or where none is.

    Raises:
        ZigguratError: If there is one.
    """
    if identity.neck not in FPT_FORMULAS:
        given = {
            "key_budget": identity.key_budget,
            "self_levels": identity.self_levels,
            "grounding_window": identity.grounding_window,
            "drop_block": drop_block or None,
        }
        _refuse(identity.name, f"model without the neck {' or '.join(FPT_FORMULAS)}", **given)
    if identity.key_budget is not None and identity.key_budget < 1:
        raise ZigguratError(f"key_budget must be at least 1, got {identity.key_budget}")
    if not 0 <= drop_block < 1:
        raise ZigguratError(f"drop_block must be at least 0 and below 1, got {drop_block}")


def _refuse(name: str, kind: str, **options: object) -> None:
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise ZigguratError(f"{name!r} is a {kind} and has no {', '.join(given)}; leave it out")
