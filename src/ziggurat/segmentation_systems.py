"""Segmentation systems: neck and heads that go onto a backbone, every number written out."""

from dataclasses import dataclass
from typing import Protocol

from torch import nn

from ziggurat.heads.fcn import FCNHead
from ziggurat.heads.segformer import SegFormerHead
from ziggurat.heads.semantic_fpn import SemanticFPNHead
from ziggurat.heads.upernet import UPerNetHead
from ziggurat.necks.fpn import FPN
from ziggurat.systems import Pyramid


@dataclass(frozen=True)
class SegmentationParts:
    """What a system puts onto a pyramid of maps; an auxiliary head reads the pyramid itself."""

    neck: nn.Module
    head: nn.Module
    auxiliary_head: nn.Module | None = None


class SegmentationBuilder(Protocol):
    """Builds neck and heads of a system."""

    def __call__(self, pyramid: Pyramid, num_classes: int, *, channels: int) -> SegmentationParts:
        """Build them with fresh weights.

        Args:
            pyramid: Gives the maps.
            num_classes: Number of classes.
            channels: Width of neck and head.
        """


@dataclass(frozen=True)
class SegmentationSystem:
    """A system and what it asks for.

    Attributes:
        build: Builds neck and heads.
        channels: Width of neck and head as published.
        strides: Strides of the maps that it reads, or None where it takes any.
        neck: Name of its neck, or None where the head reads the backbone's maps.
    """

    build: SegmentationBuilder
    channels: int
    strides: tuple[int, ...] | None = None
    neck: str | None = None


def semantic_fpn(pyramid: Pyramid, num_classes: int, *, channels: int) -> SegmentationParts:
    """Semantic FPN (Kirillov et al., arXiv:1901.02446), with PVT, PVT v2 and P2T."""
    neck = FPN(
        pyramid.out_channels,
        pyramid.out_strides,
        channels,
        start_level=0,
        num_extra_levels=0,
        extra_from="output",
    )
    head = SemanticFPNHead(
        neck.out_channels, neck.out_strides, num_classes, channels=max(1, channels // 2)
    )
    return SegmentationParts(neck, head)


def upernet(pyramid: Pyramid, num_classes: int, *, channels: int) -> SegmentationParts:
    """UPerNet (Xiao et al., arXiv:1807.10221), with GPViT."""
    head = UPerNetHead(pyramid.out_channels, num_classes, channels=channels)
    auxiliary = FCNHead(pyramid.out_channels, num_classes, channels=max(1, channels // 2))
    return SegmentationParts(nn.Identity(), head, auxiliary)


def segformer(pyramid: Pyramid, num_classes: int, *, channels: int) -> SegmentationParts:
    """SegFormer's head (Xie et al., arXiv:2105.15203), with GPViT."""
    head = SegFormerHead(pyramid.out_channels, num_classes, channels=channels)
    return SegmentationParts(nn.Identity(), head)


SEGMENTATION_SYSTEMS: dict[str, SegmentationSystem] = {
    "semantic_fpn": SegmentationSystem(semantic_fpn, 256, (4, 8, 16, 32), "fpn"),
    "upernet": SegmentationSystem(upernet, 512),
    "segformer": SegmentationSystem(segformer, 256),
}
