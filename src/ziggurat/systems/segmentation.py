"""Semantic segmentation: neck and heads that go onto a backbone, every number written out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from ziggurat.errors import ZigguratError
from ziggurat.heads.fcn import FCNHead
from ziggurat.heads.segformer import SegFormerHead
from ziggurat.heads.semantic_fpn import SemanticFPNHead
from ziggurat.heads.topformer import TopFormerHead
from ziggurat.heads.trans2seg import NUM_HEADS, Trans2SegHead
from ziggurat.heads.upernet import UPerNetHead
from ziggurat.necks.semantics_pyramid import SemanticsPyramid
from ziggurat.necks.stride_pyramid import nearest_map
from ziggurat.systems.necks import build_neck
from ziggurat.systems.plan import Plan
from ziggurat.systems.pyramid import Pyramid
from ziggurat.types import Task

PYRAMID_STRIDES = (4, 8, 16, 32)

AUXILIARY_STRIDE = 16
"""Stride of the map that an auxiliary head reads: of four maps the third, as OpenMMLab has it."""

WINDOW = 5
"""Side of the square that the paper's Feature Pyramid Transformer grounds pixels in."""


@dataclass(frozen=True)
class SegmentationParts:
    """What a system puts onto a pyramid of maps."""

    neck: nn.Module
    head: nn.Module


@runtime_checkable
class SegmentationBuilder(Protocol):
    """Builds neck and heads of a system."""

    def __call__(self, pyramid: Pyramid, plan: Plan) -> SegmentationParts:
        """Build them with fresh weights.

        Args:
            pyramid: Gives the maps.
            plan: What is left open.
        """


@dataclass(frozen=True)
class SegmentationSystem:
    """A system and what it asks for.

    Attributes:
        build: Builds neck and heads.
        channels: Width of neck and head as published.
        widths: The same for backbones with which it was published at another width.
        strides: Strides of the maps that it reads, or None where it takes a backbone's own, if the
            finest is not coarser than 8.
        neck: Name of its neck, or None where the head reads the backbone's maps.
        injects: Whether the maps are injected with TopFormer's semantics, at the system's width.
        task: What it does.
        has_depth: Whether its head has towers whose depth can be chosen.
        has_auxiliary_head: Whether it was published with a head that helps it in training.
    """

    build: SegmentationBuilder
    channels: int
    strides: tuple[int, ...] | None = None
    neck: str | None = None
    injects: bool = False
    widths: Mapping[str, int] = field(default_factory=dict)
    task: Task = "semantic_segmentation"
    has_depth: Literal[False] = False
    has_auxiliary_head: bool = False


def semantic_fpn(pyramid: Pyramid, plan: Plan) -> SegmentationParts:
    """Semantic FPN (Kirillov et al., arXiv:1901.02446), with PVT, PVT v2 and P2T."""
    levels = build_neck(pyramid, plan, window=WINDOW)
    head = SemanticFPNHead(
        levels.out_channels,
        levels.out_strides,
        plan.num_classes,
        channels=max(1, plan.channels // 2),
    )
    return SegmentationParts(levels, head)


def upernet(pyramid: Pyramid, plan: Plan) -> SegmentationParts:
    """UPerNet (Xiao et al., arXiv:1807.10221), with GPViT."""
    between, maps = _enriched(pyramid, plan)
    head = UPerNetHead(maps.out_channels, plan.num_classes, channels=plan.channels)
    return SegmentationParts(between, head)


def segformer(pyramid: Pyramid, plan: Plan) -> SegmentationParts:
    """SegFormer's head (Xie et al., arXiv:2105.15203), with GPViT."""
    between, maps = _enriched(pyramid, plan)
    head = SegFormerHead(maps.out_channels, plan.num_classes, channels=plan.channels)
    return SegmentationParts(between, head)


def trans2seg(pyramid: Pyramid, plan: Plan) -> SegmentationParts:
    """Trans2Seg's decoder (Xie et al., arXiv:2101.08461), which PVT's paper puts onto PVT.

    Raises:
        ZigguratError: If the width cannot be divided among the attention heads.
    """
    if plan.channels % NUM_HEADS:
        raise ZigguratError(
            f"head_channels must be a multiple of {NUM_HEADS}, one part for each attention head, "
            f"got {plan.channels}"
        )
    between, maps = _enriched(pyramid, plan)
    head = Trans2SegHead(maps.out_channels, plan.num_classes, channels=plan.channels)
    return SegmentationParts(between, head)


def _enriched(pyramid: Pyramid, plan: Plan) -> tuple[nn.Module, Pyramid]:
    """Return the neck of a head that reads a backbone's maps as they are, and what it reads."""
    if plan.neck is None:
        return nn.Identity(), pyramid
    levels = build_neck(pyramid, plan, window=WINDOW)
    return levels, levels


def topformer_seg(pyramid: Pyramid, plan: Plan) -> SegmentationParts:
    """TopFormer's head (Zhang et al., arXiv:2204.05525); the smallest variant mixes depthwise."""
    return _topformer(pyramid, plan, is_depthwise=plan.backbone == "topformer_tiny")


def topformer_seg_cityscapes(pyramid: Pyramid, plan: Plan) -> SegmentationParts:
    """TopFormer's head as its Cityscapes configurations have it: 128 wide, never depthwise."""
    return _topformer(pyramid, plan, is_depthwise=False)


def _topformer(pyramid: Pyramid, plan: Plan, *, is_depthwise: bool) -> SegmentationParts:
    neck: nn.Module = nn.Identity()
    if len(pyramid.out_strides) == len(PYRAMID_STRIDES):  # TopFormer's own maps are injected
        neck = SemanticsPyramid(
            pyramid.out_channels,
            pyramid.out_strides,
            plan.channels,
            drop_path_rate=plan.drop_path_rate,
        )
    head = TopFormerHead(plan.channels, plan.num_classes, is_depthwise=is_depthwise)
    return SegmentationParts(neck, head)


def build_auxiliary_head(
    system: SegmentationSystem, pyramid: Pyramid, plan: Plan, *, wanted: bool | None
) -> FCNHead | None:
    """Build a head that classifies a map in front of the neck, of half the width of the plan.

    It reads the map of stride 16, as configurations of OpenMMLab have it, or the one of the nearest
    stride, the deepest of equally near ones:

    - of the strides 4, 8, 16 and 32 the third of four maps;
    - of a longer pyramid that begins at 2, the fourth of five;
    - of GPViT's four maps of stride 8, where a head reads them as they are, the last;
    - of the three maps that TopFormer's own backbone has injected already, the second.

    The one of UPerNet reads the coarsest map on every backbone, as it was published with GPViT.

    Args:
        system: The system that it helps.
        pyramid: Gives the maps.
        plan: Number of classes, and the width of neck and head.
        wanted: Whether there is to be one; None as the system was published.
    """
    if not (system.has_auxiliary_head if wanted is None else wanted):
        return None
    own = system.has_auxiliary_head
    index = -1 if own else nearest_map(pyramid.out_strides, AUXILIARY_STRIDE)
    channels = max(1, plan.channels // 2)
    return FCNHead(pyramid.out_channels, plan.num_classes, channels=channels, index=index)


SEGMENTATION_SYSTEMS: dict[str, SegmentationSystem] = {
    "semantic_fpn": SegmentationSystem(semantic_fpn, 256, PYRAMID_STRIDES, "fpn"),
    "upernet": SegmentationSystem(upernet, 512, has_auxiliary_head=True),
    "segformer": SegmentationSystem(segformer, 256),
    "trans2seg": SegmentationSystem(trans2seg, 256, PYRAMID_STRIDES),
    "topformer_seg": SegmentationSystem(
        topformer_seg,
        256,
        PYRAMID_STRIDES,
        injects=True,
        widths={"topformer_tiny": 128, "topformer_small": 192},
    ),
    "topformer_seg_cityscapes": SegmentationSystem(
        topformer_seg_cityscapes, 128, PYRAMID_STRIDES, injects=True
    ),
}
