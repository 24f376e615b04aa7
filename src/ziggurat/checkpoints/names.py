"""Tables that turn the names of one upstream repository into ours."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class NameMap:
    r"""What the entries of a file mean; each pattern must match a name from beginning to end.

    Attributes:
        renames: Pattern of official names, and our name with \1, \2 for its groups.
        ignored: Pattern of official names that we leave out, and why.
        transposed: Patterns of official names of matrices that are stored as (in, out).
        resized: Pattern of our names of position embeddings (1, N, C), and the rule that makes a
            value of our shape from one of another number N of positions.
        absent: Pattern of our names that a file may lack, and why. It may lack all entries of the
            pattern, not some: those are part of what it was made for, or they are not.
    """

    renames: tuple[tuple[str, str], ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    transposed: tuple[str, ...] = ()
    resized: tuple[tuple[str, Callable[[Tensor, Shape], Tensor]], ...] = ()
    absent: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: "NameMap") -> "NameMap":
        return NameMap(
            self.renames + other.renames,
            self.ignored + other.ignored,
            self.transposed + other.transposed,
            self.resized + other.resized,
            self.absent + other.absent,
        )

    def under(self, official_prefix: str, own_prefix: str) -> "NameMap":
        """Return the same table for a part of a larger model."""
        theirs, ours = re.escape(official_prefix), re.escape(own_prefix)
        return NameMap(
            tuple((theirs + pattern, own_prefix + name) for pattern, name in self.renames),
            tuple((theirs + pattern, reason) for pattern, reason in self.ignored),
            tuple(theirs + pattern for pattern in self.transposed),
            tuple((ours + pattern, rule) for pattern, rule in self.resized),
            tuple((ours + pattern, reason) for pattern, reason in self.absent),
        )

    def own_name(self, official: str) -> str | None:
        """Return our name of an official entry, or None if no pattern knows it."""
        for pattern, name in self.renames:
            match = re.fullmatch(pattern, official)
            if match:
                return match.expand(name)
        return None

    def reason_to_ignore(self, official: str) -> str | None:
        """Return why an official entry is left out, or None if it is not."""
        for pattern, reason in self.ignored:
            if re.fullmatch(pattern, official):
                return reason
        return None

    def is_transposed(self, official: str) -> bool:
        """Tell whether an official entry is a matrix that is stored as (in, out)."""
        return any(re.fullmatch(pattern, official) for pattern in self.transposed)

    def resizing_rule(self, own: str) -> Callable[[Tensor, Shape], Tensor] | None:
        """Return what resizes an entry of ours, or None if its shape is fixed."""
        for pattern, rule in self.resized:
            if re.fullmatch(pattern, own):
                return rule
        return None


WITHOUT_BATCH_COUNTS = NameMap(
    absent=(
        (
            r"(.+\.)?num_batches_tracked",
            "counts of training batches, which only PyTorch keeps; they start at 0",
        ),
    )
)
"""For files of Paddle, Caffe2 and other programs than PyTorch."""
