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
        repeats: Times an image is drawn in a row (repeated augmentation, Hoffer et al.,
            arXiv:1901.09335). An epoch keeps its number of batches, as officially (DeiT), and so
            sees a part of the images. The draws of an image go to different ranks, and each has an
            epoch number of its own in its key, from which its randomness comes.

    Raises:
        ZigguratError: If there are too few images for one batch.
        ValueError: If a number is out of range, or images are both repeated and grouped.
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
        repeats: int = 1,
    ) -> None:
        if min(batch_size, repeats) < 1 or not 0 <= rank < world_size:
            raise ValueError(
                "expected batch_size >= 1, repeats >= 1 and 0 <= rank < world_size, got "
                f"batch_size={batch_size}, repeats={repeats}, rank={rank}, world_size={world_size}"
            )
        if repeats > 1 and sizes is not None:
            raise ValueError(f"repeats={repeats} is for batches that are not grouped by sizes")
        self.batch_size = batch_size
        self.global_batch = batch_size * world_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.repeats = repeats
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
        if self.repeats > 1:
            part = slice(self.rank, None, self.world_size)
        for batch in self._order(epoch)[self.start :]:
            yield [(int(draw), int(index)) for draw, index in batch[part]]

    def _num_batches(self, num_images: int) -> int:
        extra = 0 if self.drop_last else self.global_batch - 1
        return (num_images + extra) // self.global_batch

    def _order(self, epoch: int) -> Int64[np.ndarray, "batches global_batch 2"]:
        """Return the keys of all batches."""
        generator = np.random.default_rng((self.seed, epoch))
        batches = []
        for group in self.groups:
            count = self._num_batches(len(group)) * self.global_batch
            if count:
                shuffled = np.resize(generator.permutation(group), count)  # repeats from its start
                batches.append(self._keys(epoch, shuffled).reshape(-1, self.global_batch, 2))
        order = np.concatenate(batches)
        if self.repeats > 1:  # where an image's draws are cut, they go on in the next batch
            return order
        return generator.permutation(order)  # of the rows: wide and tall mixed

    def _keys(
        self, epoch: int, shuffled: Int64[np.ndarray, " images"]
    ) -> Int64[np.ndarray, "images 2"]:
        """Draw every image `repeats` times in a row, and no more images than there were."""
        number = np.arange(len(shuffled))
        draws = epoch * self.repeats + number % self.repeats
        return np.stack([draws, shuffled[number // self.repeats]], axis=1)
