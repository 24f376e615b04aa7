"""How a data set hands out item (epoch, index), and what it does about a damaged file.

In training the next image takes the place of one that cannot be decoded, so that batches stay
full; in evaluation nothing takes its place. Both ways the file is named in what is handed out,
and `loading.BadFileLedger` counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch.utils.data import Dataset

from ziggurat.data.decode import ImageDecodeError
from ziggurat.data.randomness import seeded
from ziggurat.types import BadFile, Sample

ItemKey = tuple[int, int]
"""(epoch, index)."""

MAX_REPLACEMENTS = 1000
"""So many damaged files in a row mean that the whole data set is unreadable."""


@dataclass(frozen=True)
class Unreadable:
    """Stands for an item that could not be decoded and that no other replaces.

    Attributes:
        skipped: The files that were tried.
    """

    skipped: tuple[BadFile, ...]


Item = Sample | Unreadable


def read_item(
    load: Callable[[int, tuple[BadFile, ...]], Sample],
    num_items: int,
    key: ItemKey | int,
    *,
    seed: int,
    replace_bad: bool,
) -> Item:
    """Load one item, its randomness a function of (seed, epoch, index) alone.

    Args:
        load: Gives the sample of an index; the second argument goes to `Sample.skipped`.
        num_items: Length of the data set.
        key: (epoch, index), or the index alone in epoch 0.
        seed: Seed of the run.
        replace_bad: Whether the next image takes the place of one that cannot be decoded.

    Raises:
        IndexError: If the index is outside the data set.
    """
    epoch, index = (0, key) if isinstance(key, int) else key
    if not 0 <= index < num_items:
        raise IndexError(f"index {index} is outside a data set of {num_items} images")
    skipped: tuple[BadFile, ...] = ()
    with seeded(seed, epoch, index):
        for offset in range(min(num_items, MAX_REPLACEMENTS) if replace_bad else 1):
            try:
                return load((index + offset) % num_items, skipped)
            except ImageDecodeError as error:
                skipped += (BadFile(error.path, error.reason),)
    return Unreadable(skipped)


class KeyedDataset(Dataset[Item]):
    """Images that are handed out by epoch and index; says how each is read in `_load`.

    Attributes:
        train: Whether another image takes the place of one that cannot be decoded.
        seed: Seed of the random transforms.
    """

    train: bool
    seed: int

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, key: ItemKey | int) -> Item:
        return read_item(self._load, len(self), key, seed=self.seed, replace_bad=self.train)

    def _load(self, index: int, skipped: tuple[BadFile, ...]) -> Sample:
        raise NotImplementedError
