"""Detection systems: the neck and the head that go onto a backbone, every number written out.

A system is a function, `zoo.py` finds it by its name. The published detectors were trained with two
editions of MMDetection, whose rules differ in a few places; a system says where.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from ziggurat.heads.retinanet import RetinaNetHead
from ziggurat.models.detector import Head
from ziggurat.necks.fpn import FPN
from ziggurat.types import Task

Edition = Literal["2.14", "2.25"]
"""MMDetection 2.14 trained PVT's and P2T's detectors, 2.25 GPViT's."""


@runtime_checkable  # shapes and types are checked at run time in tests
class Pyramid(Protocol):
    """What gives maps: a backbone, or what stands between it and the neck.

    Attributes:
        out_channels: Channels of the maps, fine to coarse.
        out_strides: Their strides.
    """

    @property
    def out_channels(self) -> Sequence[int]: ...  # noqa: D102

    @property
    def out_strides(self) -> Sequence[int]: ...  # noqa: D102


@dataclass(frozen=True)
class Parts:
    """What a system puts onto a pyramid of maps."""

    neck: nn.Module
    head: Head


@runtime_checkable
class SystemBuilder(Protocol):
    """Builds neck and head of a system."""

    def __call__(
        self, pyramid: Pyramid, num_classes: int, *, channels: int, depth: int, edition: Edition
    ) -> Parts:
        """Build them with fresh weights.

        Args:
            pyramid: Gives the maps.
            num_classes: Number of foreground classes.
            channels: Width of neck and head, as published 256.
            depth: Convolutions of each tower of a dense head, as published 4; 0 for the others.
            edition: Whose rules hold where they differ.
        """


@dataclass(frozen=True)
class System:
    """A system and what it asks for.

    Attributes:
        build: Builds neck and head.
        task: What it does.
        strides: Strides of the maps that it reads.
        has_depth: Whether its head has towers whose depth can be chosen.
        neck: Name of its neck, or None where the head reads the backbone's last map.
    """

    build: SystemBuilder
    task: Task
    strides: tuple[int, ...] = (4, 8, 16, 32)
    has_depth: bool = False
    neck: str | None = "fpn"


DENSE_STRIDES = (8, 16, 32)
"""Dense heads start from C3; C4 and C5 follow, and two extra levels."""


def retinanet(
    pyramid: Pyramid, num_classes: int, *, channels: int, depth: int, edition: Edition
) -> Parts:
    """RetinaNet (Lin et al., arXiv:1708.02002): levels P3..P7, the focal loss.

    GPViT's have batch norm in the pyramid and make P6 of P5, the others of C5.
    """
    neck = FPN(
        pyramid.out_channels,
        pyramid.out_strides,
        channels,
        start_level=list(pyramid.out_strides).index(8),
        num_extra_levels=2,
        extra_from="output" if edition == "2.25" else "input",
        has_norm=edition == "2.25",
    )
    head = RetinaNetHead(channels, neck.out_strides, num_classes, depth=depth)
    return Parts(neck, head)


SYSTEMS: dict[str, System] = {
    "retinanet": System(retinanet, "detection", DENSE_STRIDES, has_depth=True),
}
