"""Carry what a head knows of a class over to a head for other classes, by the names of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BOX_SIDES = 4
"""Rows that a class has in a box head's deltas, one behind the other."""


def has_names(classes: Sequence[str]) -> bool:
    """Tell whether classes have names of their own, not only numbers."""
    return any(name != f"class_{number}" for number, name in enumerate(classes))


@dataclass(frozen=True)
class ClassChange:
    """Classes of a file and of the model that it is loaded into.

    Attributes:
        before: Names in the file.
        now: Names in the model.
    """

    before: tuple[str, ...]
    now: tuple[str, ...]

    @property
    def shared(self) -> dict[int, int]:
        """Number in the model, and in the file, of each class that both have."""
        before = {name: i for i, name in enumerate(self.before) if name != f"class_{i}"}
        return {i: before[name] for i, name in enumerate(self.now) if name in before}

    def summary(self) -> str:
        """Say how many classes are carried over."""
        count, total = len(self.shared), len(self.now)
        return f"{count} of {total} classes carried over by name, {total - count} begin anew"

    def rows(self, name: str, before: Tensor, initial: Tensor) -> Tensor:
        """Return the value of an entry for the classes of the model.

        Args:
            name: Our name of the entry.
            before: Its value in the file.
            initial: Its initial value, which other classes keep, and background too where no class
                is shared.
        """
        value = initial.clone()
        if not self.shared:
            return value
        if ".deltas." in name:
            pairs = [
                (BOX_SIDES * now + side, BOX_SIDES * old + side)
                for now, old in self.shared.items()
                for side in range(BOX_SIDES)
            ]
        else:
            groups, others = self._layout(len(before), len(initial))
            pairs = [
                (group * len(self.now) + now, group * len(self.before) + old)
                for group in range(groups)
                for now, old in self.shared.items()
            ]
            pairs += [(len(initial) - 1, len(before) - 1)] * others
        targets, sources = (torch.tensor(rows) for rows in zip(*pairs, strict=True))
        value[targets] = before[sources].to(value.dtype)
        return value

    def _layout(self, before: int, now: int) -> tuple[int, int]:
        """Find how often an entry lists the classes (once an anchor), and rows of no class.

        Both sizes say it, since a head for one class and background looks like one for two
        anchors.

        Raises:
            ValueError: If the sizes are not those of the classes.
        """
        first, second = len(self.before), len(self.now)
        found = [
            (groups, others)
            for others in (0, 1)
            for groups in [(now - others) // second]
            if groups * first + others == before and groups * second + others == now
        ]
        if not found:
            raise ValueError(f"{before} and {now} rows do not belong to {first} and {second}")
        return found[-1]
