"""Sequences of a million entries that worker processes share; `NameTable` says what a list costs.

They keep arrays, and make an entry of them whenever it is looked at.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsIndex, TypeVar, overload

import numpy as np
from jaxtyping import Int32, Int64

from ziggurat.data.names import NameTable
from ziggurat.types import ImageSize

Entry = TypeVar("Entry")


class Table(Sequence[Entry]):
    """A sequence that says in `_entry` how it makes an entry; its slices make theirs no sooner."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Entry | Sequence[Entry]:
        places = range(len(self))
        if isinstance(index, slice):
            return _Part(self, places[index])
        return self._entry(places[index])

    @abstractmethod
    def _entry(self, place: int) -> Entry:
        """Make an entry; its place is one of `range(len(self))`."""


class _Part(Table[Entry]):
    """Some of the entries of a table."""

    def __init__(self, whole: Table[Entry], places: range) -> None:
        self._whole = whole
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def _entry(self, place: int) -> Entry:
        return self._whole[self._places[place]]


class TextTable(Table[str]):
    """Texts.

    Args:
        texts: The texts, which may come from a generator.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        # File names and JSON may have halves of characters, of which no UTF-8 can be made.
        self._names = NameTable.of(text.encode("utf-8", "surrogatepass") for text in texts)

    def __len__(self) -> int:
        return len(self._names)

    def _entry(self, place: int) -> str:
        return self._names[place].decode("utf-8", "surrogatepass")


class PathTable(Table[Path]):
    """Files.

    Args:
        paths: Their paths, which may come from a generator.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._texts = TextTable(str(path) for path in paths)

    def __len__(self) -> int:
        return len(self._texts)

    def _entry(self, place: int) -> Path:
        return Path(self._texts[place])


class PairTable(Table[tuple[Path, Path]]):
    """Files that belong together in pairs.

    Args:
        pairs: The pairs.
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]]) -> None:
        self._first = PathTable(first for first, _ in pairs)
        self._second = PathTable(second for _, second in pairs)

    def __len__(self) -> int:
        return len(self._first)

    def _entry(self, place: int) -> tuple[Path, Path]:
        return self._first[place], self._second[place]


class IdTable(Table[int]):
    """Ids, kept as their digits: tools that make them of a hash need more than 64 bits.

    Args:
        ids: Whole numbers, which may come from a generator.
    """

    def __init__(self, ids: Iterable[int]) -> None:
        self._digits = NameTable.of(b"%d" % number for number in ids)

    def __len__(self) -> int:
        return len(self._digits)

    def _entry(self, place: int) -> int:
        return int(self._digits[place])


class SizeTable(Table[ImageSize]):
    """Sizes of images.

    Args:
        sizes: Height and width of each image.

    Attributes:
        sides: The same in an array.
    """

    def __init__(self, sizes: Sequence[ImageSize]) -> None:
        self.sides: Int32[np.ndarray, "N 2"] = np.array(sizes, dtype=np.int32).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.sides)

    def _entry(self, place: int) -> ImageSize:
        height, width = self.sides[place].tolist()
        return height, width

    def take(self, places: Int64[np.ndarray, " M"]) -> list[ImageSize]:
        """Return the sizes of some images at once.

        Args:
            places: Which ones.
        """
        return [(height, width) for height, width in self.sides[places].tolist()]
