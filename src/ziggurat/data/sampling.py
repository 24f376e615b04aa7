"""Which images make which batch: a function of (seed, epoch), shared out over the ranks."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int64
from torch.utils.data import Sampler

from ziggurat.data.items import ItemKey
from ziggurat.errors import ZigguratError
from ziggurat.types import ImageSize


class SeededBatchSampler(Sampler[list[ItemKey]]):
    """Full batches of (epoch, index) in an order that any rank can compute by itself.

    A global batch is cut into one part for each rank, so that the same global batch size gives
    the same global batches on any number of devices.

    Args:
        num_images: Length of the data set.
        batch_size: Images of a batch on one rank.
        seed: Seed of the run.
        rank: Number of this process among all.
        world_size: Number of processes.
        drop_last: Whether images that fill no whole batch wait for another epoch; otherwise
            images are repeated to fill it, and every image is seen in every epoch.
        sizes: Sizes of the images; where given, a batch has only wide or only tall ones, which
            saves padding (a global batch too: all ranks get the same kind).

    Raises:
        ZigguratError: If there are too few images for one batch.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        *,
        seed: int,
        rank: int,
        world_size: int,
        drop_last: bool,
        sizes: Sequence[ImageSize] | None,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                f"expected batch_size >= 1 and 0 <= rank < world_size, got batch_size={batch_size}"
                f", rank={rank}, world_size={world_size}"
            )
        self.batch_size = batch_size
        self.global_batch = batch_size * world_size
        self.seed = seed
        self.rank = rank
        self.drop_last = drop_last
        is_wide = np.array([width > height for height, width in sizes or [(1, 1)] * num_images])
        self.groups = [np.flatnonzero(is_wide), np.flatnonzero(~is_wide)]
        self.epoch = 0
        self.start = 0  # first batch of the next iteration
        self.handed_out = 0  # batches of this epoch that a loader has given
        if not len(self):
            raise ZigguratError(
                f"the training split has {num_images} images, too few for a full batch of "
                f"{self.global_batch} ({batch_size} on each of {world_size} devices); "
                "use a smaller batch size"
            )

    @property
    def sampler(self) -> "SeededBatchSampler":
        """Itself: Lightning sets the epoch on `batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; another epoch than before starts at its first batch."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.start = self.handed_out = 0

    def __len__(self) -> int:
        """Batches of a whole epoch, also when this one goes on in its middle."""
        return sum(self._num_batches(len(group)) for group in self.groups)

    def __iter__(self) -> Iterator[list[ItemKey]]:
        epoch = self.epoch
        part = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        for batch in self._order(epoch)[self.start :]:
            yield [(epoch, int(index)) for index in batch[part]]

    def _num_batches(self, num_images: int) -> int:
        extra = 0 if self.drop_last else self.global_batch - 1
        return (num_images + extra) // self.global_batch

    def _order(self, epoch: int) -> Int64[np.ndarray, "batches global_batch"]:
        generator = np.random.default_rng((self.seed, epoch))
        batches = []
        for group in self.groups:
            count = self._num_batches(len(group)) * self.global_batch
            if count:
                shuffled = np.resize(generator.permutation(group), count)  # repeats from its start
                batches.append(shuffled.reshape(-1, self.global_batch))
        return generator.permutation(np.concatenate(batches))  # of the rows: wide and tall mixed
