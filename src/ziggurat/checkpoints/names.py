"""Tables that turn the names of one upstream repository into ours."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class NameMap:
    r"""Patterns of official names; each must match a name from beginning to end.

    Attributes:
        renames: Pattern of official names, and our name with \1, \2 for its groups.
        ignored: Pattern of official names that we leave out, and why.
    """

    renames: tuple[tuple[str, str], ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: "NameMap") -> "NameMap":
        return NameMap(self.renames + other.renames, self.ignored + other.ignored)

    def under(self, official_prefix: str, own_prefix: str) -> "NameMap":
        """Return the same table for a part of a larger model."""
        start = re.escape(official_prefix)
        return NameMap(
            tuple((start + pattern, own_prefix + name) for pattern, name in self.renames),
            tuple((start + pattern, reason) for pattern, reason in self.ignored),
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
