"""Carry what a head knows of a class over to a head for other classes, by the names of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ziggurat.errors import ZigguratError

BOX_SIDES = 4
"""Rows that a class has in a box head's deltas, one behind the other."""

CARRIED_OVER = (
    "`--model.reset_classes true` of a training run, and `reset_classes` in Python, carry over "
    "classes of the same name"
)


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

    def fits(self, name: str, before: int, now: int) -> bool:
        """Tell whether an entry has rows for these classes in the file and in the model.

        Args:
            name: Our name of the entry.
            before: Number of its rows in the file.
            now: The same in the model.
        """
        if ".deltas." in name:
            return (before, now) == (BOX_SIDES * len(self.before), BOX_SIDES * len(self.now))
        return bool(self._layouts(before, now))

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

        Raises:
            ValueError: If the sizes are not those of the classes.
        """
        found = self._layouts(before, now)
        if not found:
            first, second = len(self.before), len(self.now)
            raise ValueError(f"{before} and {now} rows do not belong to {first} and {second}")
        return found[-1]

    def _layouts(self, before: int, now: int) -> list[tuple[int, int]]:
        # Both sizes say it, since a head for one class and background looks like one for two
        # anchors.
        first, second = len(self.before), len(self.now)
        return [
            (groups, others)
            for others in (0, 1)
            for groups in [(now - others) // second]
            if groups * first + others == before and groups * second + others == now
        ]


def require_same_order(where: str, before: Sequence[str], now: Sequence[str]) -> None:
    """Refuse as many classes of which one has another number.

    Args:
        where: How the message calls the file.
        before: Names in the file.
        now: Names in the model.

    Raises:
        ZigguratError: If there is one.
    """
    for number, name in enumerate(now):
        if name in before and before[number] != name:
            raise ZigguratError(
                f"{where} has its classes in another order: class {number} is {before[number]!r} "
                f"there and {name!r} here; {CARRIED_OVER}"
            )
