"""What a system builds on."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


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
