"""From data sets to batches: collation, the loaders of training and evaluation, bad files."""

import atexit
import signal
from collections.abc import Callable, Iterator, Sequence, Sized
from functools import partial
from typing import Any, Protocol, runtime_checkable
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ziggurat.data.items import Item
from ziggurat.data.sampling import SeededBatchSampler
from ziggurat.errors import ZigguratError
from ziggurat.ops.padding import aligned_size
from ziggurat.types import BadFile, Batch, ClassMasks, Detections, ImageSize, LabelMap, Sample

SECONDS_TO_SAVE = 60
"""How long a worker that was told to stop waits for the main process to stop it."""

_LOADERS: "WeakSet[DataLoader[Item]]" = WeakSet()


@runtime_checkable
class KnowsSizes(Protocol):
    """A data set that knows how large its images are before it reads them."""

    @property
    def sizes(self) -> list[ImageSize]:
        """Height and width of every image."""


def collate(items: Sequence[Item], divisor: int) -> Batch:
    """Pad images to one size, a multiple of `divisor`, with zeros at the right and the bottom.

    Args:
        items: Samples; what stands for unreadable files goes to `Batch.skipped`. If nothing else
            is there, the batch has no images.
        divisor: 1 for classification, the model's for detection.
    """
    samples = [item for item in items if isinstance(item, Sample)]
    skipped = tuple(file for item in items for file in item.skipped)
    image_sizes = [(sample.image.shape[1], sample.image.shape[2]) for sample in samples]
    heights, widths = [h for h, _ in image_sizes], [w for _, w in image_sizes]
    largest = max(heights, default=1), max(widths, default=1)
    height, width = aligned_size(largest, divisor)
    images = torch.zeros(len(samples), 3, height, width)
    images = images.contiguous(memory_format=torch.channels_last)
    for image, sample in zip(images, samples, strict=True):
        image[:, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
    return Batch(
        images, image_sizes, _collate_targets(samples), [sample.info for sample in samples], skipped
    )


def _collate_targets(
    samples: Sequence[Sample],
) -> Tensor | list[Detections] | list[LabelMap] | list[ClassMasks] | None:
    labels = [sample.target for sample in samples if isinstance(sample.target, int)]
    objects = [sample.target for sample in samples if isinstance(sample.target, Detections)]
    if labels and len(labels) == len(samples):
        return torch.tensor(labels)
    if objects and len(objects) == len(samples):
        return objects
    maps = [sample.target for sample in samples if isinstance(sample.target, LabelMap)]
    if maps and len(maps) == len(samples):
        return maps
    masks = [sample.target for sample in samples if isinstance(sample.target, ClassMasks)]
    if masks and len(masks) == len(samples):
        return masks
    if any(sample.target is not None for sample in samples):
        kinds = sorted({type(sample.target).__name__ for sample in samples})
        raise TypeError(
            f"a batch needs targets of one kind, or none at all, got {', '.join(kinds)}"
        )
    return None


class TrainingLoader(DataLoader[Item]):
    """Full batches in an order that depends on (seed, epoch); stops and goes on anywhere.

    `state_dict` counts batches handed out, not those that workers have prepared, so that a run
    restored from it goes on with the very next one.

    Args:
        dataset: Data set with keys (epoch, index).
        batch_size: Images of a batch on one rank.
        divisor: Height and width of a batch are multiples of this.
        workers: Processes that decode; 0 decodes in this one.
        seed: Seed of the run.
        rank: Number of this process among all.
        world_size: Number of processes.
        drop_last: Whether images that fill no whole batch are left out of an epoch; otherwise
            some images come twice.
        group_by_aspect: Whether a batch has only wide or only tall images.
        repeats: Times an image is drawn in a row.
        is_pinned: Whether batches lie in page-locked memory, which an NVIDIA GPU reads sooner.

    Raises:
        ZigguratError: If there are too few images for one batch.
        TypeError: If batches are to be grouped and the data set does not know its sizes.
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        *,
        batch_size: int,
        divisor: int,
        workers: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool,
        group_by_aspect: bool,
        repeats: int = 1,
        is_pinned: bool = False,
    ) -> None:
        if group_by_aspect and not isinstance(dataset, KnowsSizes):
            raise TypeError(f"group_by_aspect needs a data set with sizes, got {type(dataset)}")
        self.batches = SeededBatchSampler(
            _length(dataset),
            batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
            sizes=dataset.sizes if group_by_aspect and isinstance(dataset, KnowsSizes) else None,
            repeats=repeats,
        )
        super().__init__(
            dataset,
            batch_sampler=self.batches,
            collate_fn=partial(collate, divisor=divisor),
            **_worker_options(workers, is_pinned=is_pinned),
        )
        _LOADERS.add(self)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; another epoch than before starts at its first batch."""
        self.batches.set_epoch(epoch)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Give the rest of the epoch where a state was loaded, else the whole of it.

        Nothing starts before the first batch is asked for: Lightning makes the iterator before
        it sets the epoch.

        Yields:
            Full batches.

        Raises:
            ZigguratError: If a whole stretch of files cannot be decoded.
        """
        self.batches.handed_out = self.batches.start
        for batch in super().__iter__():
            self.batches.start = 0
            self.batches.handed_out += 1
            if len(batch.images) < self.batches.batch_size:
                first = batch.skipped[0]
                raise ZigguratError(
                    f"{len(batch.skipped)} training images and more cannot be decoded, the first "
                    f"of them {first.path}: {first.reason}; check the data set"
                )
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Say where the run stands: epoch, batches handed out, and of how many."""
        return {
            "epoch": self.batches.epoch,
            "handed_out": self.batches.handed_out,
            "num_batches": len(self.batches),
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on where a run stopped; after the last batch of an epoch with the next epoch.

        Raises:
            ZigguratError: If the data no longer make the same number of batches.
        """
        if state_dict["num_batches"] != len(self.batches):
            raise ZigguratError(
                f"the stopped run had {state_dict['num_batches']} batches an epoch, now there are "
                f"{len(self.batches)}; resume with the same data, batch size and number of devices"
            )
        is_done = state_dict["handed_out"] >= len(self.batches)
        self.batches.epoch = state_dict["epoch"] + is_done
        self.batches.start = 0 if is_done else state_dict["handed_out"]
        self.batches.handed_out = self.batches.start


class EvaluationLoader(DataLoader[Item]):
    """Every image exactly once, in order; each rank has one contiguous part.

    The parts differ by one image at most, and none is filled up, so that no image counts twice.
    A batch whose images are all unreadable is empty.

    Args:
        dataset: The images.
        batch_size: Images of a batch on one rank.
        divisor: Height and width of a batch are multiples of this.
        workers: Processes that decode; 0 decodes in this one.
        rank: Number of this process among all.
        world_size: Number of processes.
        is_pinned: Whether batches lie in page-locked memory, which an NVIDIA GPU reads sooner.
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        *,
        batch_size: int,
        divisor: int,
        workers: int,
        rank: int = 0,
        world_size: int = 1,
        is_pinned: bool = False,
    ) -> None:
        length = _length(dataset)
        start, stop = (length * r // world_size for r in (rank, rank + 1))
        super().__init__(
            dataset,
            batch_size=batch_size,
            sampler=range(start, stop),
            collate_fn=partial(collate, divisor=divisor),
            **_worker_options(workers, is_pinned=is_pinned),
        )
        _LOADERS.add(self)


class BadFileLedger:
    """Counts files that could not be decoded, says each once, and stops at a limit.

    Args:
        limit: So many bad files are put up with.
        report: Is told of each file once.
        advice: What the message at the limit says besides repairing or removing the files.
    """

    def __init__(
        self,
        limit: int,
        report: Callable[[BadFile], None],
        *,
        advice: str = "raise data.max_bad_files",
    ) -> None:
        self.limit = limit
        self.report = report
        self.advice = advice
        self.files: dict[str, BadFile] = {}

    def add(self, skipped: Sequence[BadFile]) -> None:
        """Note the files of a batch.

        Args:
            skipped: `Batch.skipped`.

        Raises:
            ZigguratError: If there are now more distinct bad files than the limit.
        """
        for file in skipped:
            if file.path not in self.files:
                self.files[file.path] = file
                self.report(file)
        if len(self.files) > self.limit:
            named = [f"{file.path} ({file.reason})" for file in list(self.files.values())[:5]]
            more = ", ..." if len(self.files) > len(named) else ""
            raise ZigguratError(
                f"{len(self.files)} images cannot be decoded, the limit is {self.limit}: "
                f"{', '.join(named)}{more}; repair or remove them, or {self.advice}"
            )


def _length(dataset: Dataset[Item]) -> int:
    if not isinstance(dataset, Sized):
        raise TypeError(f"expected a data set with a length, got {type(dataset)}")
    return len(dataset)


def _worker_options(workers: int, *, is_pinned: bool) -> dict[str, Any]:
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        # Who asks knows the device: to look for a GPU here would open it in runs on the CPU.
        "pin_memory": is_pinned,
        "worker_init_fn": _leave_signals_to_parent,
        # The workers' base seed comes from here and not from the global generator, whose state
        # belongs to the model: items seed themselves.
        "generator": torch.Generator(),
    }


def _leave_signals_to_parent(worker_id: int) -> None:
    """Let signals that reach all processes stop the main one alone, which saves first.

    Ctrl-C in a terminal does so, and so does a batch system at the end of a job's time. Afterwards
    the main process stops the workers, at the latest with a second SIGTERM.
    """
    del worker_id
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop_later)
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    """End workers at exit as a loader does that nobody needs any more.

    Otherwise `multiprocessing` ends them by SIGTERM, which they put off, and waits for them.
    """
    for loader in _LOADERS:
        loader._iterator = None  # its end is that of the workers


def _stop_later(number: int, frame: object) -> None:
    del frame
    signal.signal(number, signal.SIG_DFL)
    if hasattr(signal, "alarm"):
        signal.alarm(SECONDS_TO_SAVE)  # no worker outlives a main process that forgot it
