"""Tables that turn the names of one upstream repository into ours."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class BackgroundFirst:
    """Rows of classes of which those of background come first; here they come last, or not at all.

    Attributes:
        rows: Rows of each class.
        is_kept: Whether background has rows here.
    """

    rows: int = 1
    is_kept: bool = True

    def own(self, value: Tensor) -> Tensor:
        """Return the rows in our order."""
        background, classes = value[: self.rows], value[self.rows :]
        return torch.cat([classes, background]) if self.is_kept else classes

    def own_shape(self, official: Shape) -> Shape:
        """Return the shape that `own` gives."""
        if self.is_kept or not official:
            return official
        return (official[0] - self.rows, *official[1:])

    def official_shape(self, own: Shape) -> Shape:
        """Return the shape of which `own` gives this one."""
        if self.is_kept or not own:
            return own
        return (own[0] + self.rows, *own[1:])


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
        background_first: Pattern of official names, and how their rows are those of classes.
        repeated: Pattern of official names of entries that must hold what another entry of the
            file holds, its name with \1, \2 for the groups, and why there are two.
    """

    renames: tuple[tuple[str, str], ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    transposed: tuple[str, ...] = ()
    resized: tuple[tuple[str, Callable[[Tensor, Shape], Tensor]], ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    background_first: tuple[tuple[str, BackgroundFirst], ...] = ()
    repeated: tuple[tuple[str, str, str], ...] = ()

    def __add__(self, other: "NameMap") -> "NameMap":
        return NameMap(
            self.renames + other.renames,
            self.ignored + other.ignored,
            self.transposed + other.transposed,
            self.resized + other.resized,
            self.absent + other.absent,
            self.background_first + other.background_first,
            self.repeated + other.repeated,
        )

    def under(self, official_prefix: str, own_prefix: str) -> "NameMap":
        """Return the same table for a part of a larger model."""

        def theirs(pattern: str) -> str:
            return f"{re.escape(official_prefix)}(?:{pattern})"

        def ours(pattern: str) -> str:
            return f"{re.escape(own_prefix)}(?:{pattern})"

        return NameMap(
            tuple((theirs(pattern), own_prefix + name) for pattern, name in self.renames),
            tuple((theirs(pattern), reason) for pattern, reason in self.ignored),
            tuple(theirs(pattern) for pattern in self.transposed),
            tuple((ours(pattern), rule) for pattern, rule in self.resized),
            tuple((ours(pattern), reason) for pattern, reason in self.absent),
            tuple((theirs(pattern), rows) for pattern, rows in self.background_first),
            tuple(
                (theirs(pattern), official_prefix + name, reason)
                for pattern, name, reason in self.repeated
            ),
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
        for pattern, *_, reason in (*self.ignored, *self.repeated):
            if re.fullmatch(pattern, official):
                return reason
        return None

    def repeated_name(self, official: str) -> str | None:
        """Return the official entry that this one must be equal to, or None if there is none."""
        for pattern, name, _ in self.repeated:
            match = re.fullmatch(pattern, official)
            if match:
                return match.expand(name)
        return None

    def rows_of_classes(self, official: str) -> BackgroundFirst | None:
        """Return how the rows of an entry are those of classes, or None if they are as here."""
        for pattern, rows in self.background_first:
            if re.fullmatch(pattern, official):
                return rows
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
