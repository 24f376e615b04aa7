"""Batches, their order, stopping and going on, ranks, workers, and bad files."""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from timm.data.distributed_sampler import RepeatAugSampler
from torch import Tensor
from torch.utils.data import Dataset

from ziggurat.data.decode import ImageDecodeError
from ziggurat.data.items import Item, ItemKey, Unreadable, read_item
from ziggurat.data.loading import (
    SECONDS_TO_SAVE,
    BadFileLedger,
    EvaluationLoader,
    TrainingLoader,
    collate,
)
from ziggurat.errors import ZigguratError
from ziggurat.types import BadFile, Batch, Detections, ImageInfo, ImageSize, Sample


class Numbers(Dataset[Item]):
    """Images that hold their own index and a random number; `bad` ones cannot be decoded."""

    def __init__(self, length: int, bad: Iterable[int] = (), train: bool = True) -> None:
        self.length = length
        self.bad = frozenset(bad)
        self.train = train

    def __len__(self) -> int:
        return self.length

    @property
    def sizes(self) -> list[ImageSize]:
        """Every third is tall."""
        return [(8, 4) if index % 3 == 0 else (4, 8) for index in range(self.length)]

    def __getitem__(self, key: ItemKey | int) -> Item:
        return read_item(self._load, self.length, key, seed=0, replace_bad=self.train)

    def _load(self, index: int, skipped: tuple[BadFile, ...]) -> Sample:
        if index in self.bad:
            raise ImageDecodeError(f"{index}.jpg", "bad")
        height, width = self.sizes[index]
        image = torch.full((3, height, width), float(index))
        image[1] = torch.rand(())
        return Sample(image, index % 2, ImageInfo(index, f"{index}.jpg", (1, 1)), skipped)


def training(
    dataset: Numbers,
    batch_size: int = 4,
    *,
    workers: int = 0,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = True,
    group_by_aspect: bool = False,
    repeats: int = 1,
) -> TrainingLoader:
    return TrainingLoader(
        dataset,
        batch_size=batch_size,
        divisor=1,
        workers=workers,
        seed=seed,
        rank=rank,
        world_size=world_size,
        drop_last=drop_last,
        group_by_aspect=group_by_aspect,
        repeats=repeats,
    )


def ids(batches: Iterable[Batch]) -> list[list[int]]:
    return [[info.image_id for info in batch.infos] for batch in batches]


def epoch_ids(loader: TrainingLoader, epoch: int) -> list[list[int]]:
    loader.set_epoch(epoch)
    return ids(loader)


# collate


def sample(height: int, width: int, target: int | Detections | None, fill: float = 1.0) -> Sample:
    image = torch.full((3, height, width), fill)
    return Sample(image, target, ImageInfo(0, "0.jpg", (height, width)))


def boxes(count: int) -> Detections:
    return Detections(
        torch.zeros(count, 4), torch.ones(count), torch.zeros(count, dtype=torch.int64)
    )


def test_padding_is_zero_at_the_right_and_bottom() -> None:
    batch = collate([sample(30, 40, boxes(1)), sample(50, 20, boxes(0))], divisor=32)
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.image_sizes == [(30, 40), (50, 20)]
    assert batch.images[0, :, :30, :40].min() == 1
    assert batch.images[1, :, :50, :20].min() == 1
    assert batch.images.sum() == 3 * (30 * 40 + 50 * 20)
    assert isinstance(batch.targets, list)
    assert [len(t) for t in batch.targets if isinstance(t, Detections)] == [1, 0]


def test_a_multiple_is_not_padded_further() -> None:
    assert collate([sample(64, 32, boxes(1))], divisor=32).images.shape == (1, 3, 64, 32)


def test_labels_make_a_tensor_and_unknown_targets_none() -> None:
    targets = collate([sample(4, 4, 2), sample(4, 4, 0)], divisor=1).targets
    assert isinstance(targets, Tensor)
    assert targets.tolist() == [2, 0] and targets.dtype == torch.int64
    assert collate([sample(4, 4, None), sample(4, 4, None)], divisor=1).targets is None


def test_targets_of_two_kinds_make_no_batch() -> None:
    for other in (None, boxes(1)):
        with pytest.raises(TypeError, match="targets of one kind, or none at all, got .*int"):
            collate([sample(4, 4, 2), sample(4, 4, other)], divisor=1)
    with pytest.raises(TypeError, match="got Detections, NoneType"):
        collate([sample(4, 4, boxes(0)), sample(4, 4, None)], divisor=1)


@pytest.mark.parametrize("targets", [(1, 2), (boxes(1), boxes(0)), (None, None)])
def test_pinning_takes_all_tensors(
    monkeypatch: pytest.MonkeyPatch, targets: tuple[int | Detections | None, ...]
) -> None:
    # There is no page-locked memory without a GPU: a copy stands for it.
    pinned: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    batch = collate([sample(4, 4, target) for target in targets], divisor=1)
    copy = batch.pin_memory()
    tensors = [copy.images]
    if isinstance(copy.targets, Tensor):
        tensors.append(copy.targets)
    for target in copy.targets if isinstance(copy.targets, list) else []:
        assert isinstance(target, Detections)
        tensors += [target.boxes, target.scores, target.labels]
    assert {id(tensor) for tensor in tensors} == {id(tensor) for tensor in pinned}
    assert len(tensors) == {int: 2, Detections: 7}.get(type(targets[0]), 1)
    assert copy.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(copy.images, batch.images)
    assert (copy.infos, copy.image_sizes) == (batch.infos, batch.image_sizes)


def test_unreadable_items_are_named() -> None:
    bad = BadFile("x.jpg", "text")
    batch = collate([Unreadable((bad,)), sample(4, 4, 1)], divisor=1)
    assert len(batch.images) == len(batch.infos) == 1
    assert batch.skipped == (bad,)
    empty = collate([Unreadable((bad,))], divisor=32)
    assert len(empty.images) == 0 and empty.infos == [] and empty.skipped == (bad,)


# the order of training


def test_an_epoch_has_every_image_once_in_another_order() -> None:
    loader = training(Numbers(12))
    first, second = epoch_ids(loader, 0), epoch_ids(loader, 1)
    for batches in (first, second):
        assert sorted(sum(batches, [])) == list(range(12))
    assert first != second
    assert epoch_ids(loader, 0) == first
    assert epoch_ids(training(Numbers(12), seed=1), 0) != first


def test_dropping_or_filling_the_last_batch() -> None:
    dropped = epoch_ids(training(Numbers(11), drop_last=True), 0)
    assert [len(batch) for batch in dropped] == [4, 4]
    assert len(set(sum(dropped, []))) == 8
    filled = epoch_ids(training(Numbers(11), drop_last=False), 0)
    assert [len(batch) for batch in filled] == [4, 4, 4]
    assert set(sum(filled, [])) == set(range(11))
    assert epoch_ids(training(Numbers(2), drop_last=False), 0)[0].count(0) == 2


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_global_batches(world_size: int) -> None:
    one = epoch_ids(training(Numbers(30), 2 * world_size), 3)
    ranks = [
        epoch_ids(training(Numbers(30), 2, rank=rank, world_size=world_size), 3)
        for rank in range(world_size)
    ]
    assert [sum(parts, ()) for parts in zip(*[map(tuple, r) for r in ranks], strict=True)] == [
        tuple(batch) for batch in one
    ]


@pytest.mark.parametrize("drop_last", [True, False])
def test_batches_of_one_aspect(drop_last: bool) -> None:
    loader = training(Numbers(40), group_by_aspect=True, drop_last=drop_last)
    batches = epoch_ids(loader, 0)
    assert all(len({index % 3 == 0 for index in batch}) == 1 for batch in batches)
    assert len(batches) == len(loader) == (3 + 6 if drop_last else 4 + 7)
    kinds = [batch[0] % 3 == 0 for batch in batches]
    assert kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)
    if not drop_last:
        assert set(sum(batches, [])) == set(range(40))


def test_items_are_the_same_with_any_number_of_workers() -> None:
    alone, helped = (training(Numbers(16), workers=workers) for workers in (0, 2))
    for epoch in (0, 1):
        for loader in (alone, helped):
            loader.set_epoch(epoch)
        for ours, theirs in zip(alone, helped, strict=True):
            assert torch.equal(ours.images, theirs.images)
            assert ours.infos == theirs.infos
            assert theirs.images.is_contiguous(memory_format=torch.channels_last)


def test_loading_leaves_the_global_generator() -> None:
    before = torch.get_rng_state()
    list(training(Numbers(8)))
    assert torch.equal(torch.get_rng_state(), before)


# stopping and going on


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("group_by_aspect", [False, True])
def test_a_stopped_epoch_goes_on_with_the_next_batch(workers: int, group_by_aspect: bool) -> None:
    dataset = Numbers(24)
    loader = training(dataset, 2, workers=workers, group_by_aspect=group_by_aspect)
    whole = epoch_ids(loader, 2)
    loader.set_epoch(0)
    loader.set_epoch(2)
    given = []
    for batch in loader:
        given.append(ids([batch])[0])
        if len(given) == 5:
            state = loader.state_dict()
            break
    resumed = training(dataset, 2, workers=workers, group_by_aspect=group_by_aspect)
    resumed.set_epoch(2)  # in the order of Lightning: before and after the state, before a batch
    resumed.load_state_dict(state)
    iterator = iter(resumed)
    resumed.set_epoch(2)
    assert len(resumed) == len(whole)
    assert resumed.state_dict() == state
    rest = ids(iterator)
    assert given + rest == whole
    assert epoch_ids(resumed, 3) == epoch_ids(
        training(dataset, 2, group_by_aspect=group_by_aspect), 3
    )


def test_a_break_without_a_state_starts_over() -> None:
    loader = training(Numbers(12))
    for _ in loader:
        break
    assert len(ids(loader)) == 3


def test_a_finished_epoch_goes_on_with_the_next() -> None:
    loader = training(Numbers(12))
    loader.set_epoch(4)
    list(loader)
    resumed = training(Numbers(12))
    resumed.load_state_dict(loader.state_dict())
    assert resumed.state_dict() == {"epoch": 5, "handed_out": 0, "num_batches": 3}
    assert ids(resumed) == epoch_ids(training(Numbers(12)), 5)


def test_a_state_before_the_first_batch_of_an_epoch() -> None:
    loader = training(Numbers(12))
    list(loader)
    loader.set_epoch(1)
    assert loader.state_dict() == {"epoch": 1, "handed_out": 0, "num_batches": 3}


def test_the_state_survives_safe_loading(tmp_path: Path) -> None:
    loader = training(Numbers(12))
    batches = iter(loader)
    for _ in range(2):
        next(batches)
    torch.save(loader.state_dict(), tmp_path / "state.pt")
    resumed = training(Numbers(12))
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.state_dict() == {"epoch": 0, "handed_out": 2, "num_batches": 3}
    assert ids(resumed) == ids(batches)


def test_a_state_of_other_data() -> None:
    state = training(Numbers(12)).state_dict()
    with pytest.raises(ZigguratError, match="had 3 batches an epoch, now there are 4"):
        training(Numbers(16)).load_state_dict(state)


# evaluation


@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (1, 2), (2, 0), (3, 0), (8, 0)])
def test_evaluation_sees_every_image_once_in_order(world_size: int, workers: int) -> None:
    dataset = Numbers(7, train=False)
    seen: list[int] = []
    for rank in range(world_size):
        loader = EvaluationLoader(
            dataset, batch_size=2, divisor=4, workers=workers, rank=rank, world_size=world_size
        )
        batches = ids(loader)
        assert len(batches) == len(loader)
        seen += sum(batches, [])
    assert seen == list(range(7))


# bad files


def test_training_batches_stay_full() -> None:
    loader = training(Numbers(8, bad=(2, 3)))
    batches = list(loader)
    assert [len(batch.images) for batch in batches] == [4, 4]
    named = {file.path for batch in batches for file in batch.skipped}
    assert named == {"2.jpg", "3.jpg"}


def test_evaluation_batches_shrink() -> None:
    dataset = Numbers(6, bad=(0, 4, 5), train=False)
    batches = list(EvaluationLoader(dataset, batch_size=2, divisor=1, workers=0))
    assert ids(batches) == [[1], [2, 3], []]
    assert [file.path for batch in batches for file in batch.skipped] == ["0.jpg", "4.jpg", "5.jpg"]


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_training_data_stops_in_one_sentence(workers: int) -> None:
    said = ""
    # Not by pytest.raises: what it caught would hold the workers in a cycle, and they end late.
    try:
        next(iter(training(Numbers(8, bad=range(8)), workers=workers)))
    except ZigguratError as error:
        said = str(error)
    assert re.search(r"cannot be decoded.*\d.jpg: bad", said)
    assert "\n" not in said


def test_the_ledger_says_each_file_once_and_stops_at_its_limit() -> None:
    said: list[str] = []
    ledger = BadFileLedger(2, lambda file: said.append(file.path))
    a, b, c = (BadFile(f"{name}.jpg", "text") for name in "abc")
    ledger.add(())
    ledger.add((a, b))
    ledger.add((b, a))
    assert said == ["a.jpg", "b.jpg"]
    with pytest.raises(ZigguratError, match=r"3 images .* limit is 2: a.jpg \(text\).*c.jpg"):
        ledger.add((c,))
    assert said == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_limit_of_zero_puts_up_with_none() -> None:
    ledger = BadFileLedger(0, lambda file: None)
    with pytest.raises(ZigguratError, match=r"(\d.jpg \(bad\), ){4}\d.jpg \(bad\), \.\.\.; repair"):
        ledger.add(tuple(BadFile(f"{index}.jpg", "bad") for index in range(7)))


def test_the_ledger_gives_other_advice() -> None:
    ledger = BadFileLedger(0, lambda file: None, advice="take other data")
    with pytest.raises(ZigguratError, match="repair or remove them, or take other data$"):
        ledger.add((BadFile("a.jpg", "bad"),))


# bad arguments


def test_too_few_images_for_a_batch() -> None:
    with pytest.raises(
        ZigguratError, match=r"has 3 images, too few for a full batch of 8 \(4 on each of 2"
    ):
        training(Numbers(3), world_size=2)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="batch_size=0"):
        training(Numbers(3), 0)
    with pytest.raises(ValueError, match="rank=2, world_size=2"):
        training(Numbers(30), rank=2, world_size=2)

    class Unmeasured(Dataset[Item]):
        def __len__(self) -> int:
            return 8

    with pytest.raises(TypeError, match="needs a data set with sizes"):
        TrainingLoader(
            Unmeasured(),
            batch_size=2,
            divisor=1,
            workers=0,
            seed=0,
            drop_last=True,
            group_by_aspect=True,
        )
    with pytest.raises(TypeError, match="a data set with a length"):
        EvaluationLoader(Dataset[Item](), batch_size=2, divisor=1, workers=0)


# repeated augmentation


def first_seen(values: Iterable[int]) -> list[int]:
    """Numbers in the order of their first appearance, so that two orders can be compared."""
    seen: dict[int, int] = {}
    return [seen.setdefault(value, len(seen)) for value in values]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_repeated_draws_come_as_in_timm(world_size: int) -> None:
    shares = []
    for rank in range(world_size):
        sampler = RepeatAugSampler(
            Numbers(26), world_size, rank, num_repeats=3, selected_round=0, selected_ratio=0
        )
        shares.append(list(sampler))
    length = 24 // world_size  # what fills no whole batch is left out
    official = [shares[i % world_size][i // world_size] for i in range(length * world_size)]
    loaders = [
        training(Numbers(26), 12 // world_size, rank=rank, world_size=world_size, repeats=3)
        for rank in range(world_size)
    ]
    batches = list(zip(*(ids(loader) for loader in loaders), strict=True))
    assert len(batches) == 2
    found = [image for parts in batches for row in zip(*parts, strict=True) for image in row]
    assert first_seen(found) == first_seen(official)


def test_repeated_draws_are_augmented_anew() -> None:
    loader = training(Numbers(12), repeats=3)
    seen: dict[int, set[float]] = {}
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        for batch in loader:
            for image, info in zip(batch.images, batch.infos, strict=True):
                seen.setdefault(info.image_id, set()).add(float(image[1, 0, 0]))
        assert sum(len(draws) for draws in seen.values()) == 12 * (epoch + 1)


def test_repeated_draws_go_on_where_a_run_stopped() -> None:
    whole = training(Numbers(26), repeats=3)
    whole.set_epoch(1)
    expected = list(whole)
    stopped = training(Numbers(26), repeats=3)
    stopped.set_epoch(1)
    iterator = iter(stopped)
    for _ in range(2):
        next(iterator)
    resumed = training(Numbers(26), repeats=3)
    resumed.load_state_dict(stopped.state_dict())
    rest = list(resumed)
    assert len(rest) == len(expected) - 2
    for batch, other in zip(rest, expected[2:], strict=True):
        assert torch.equal(batch.images, other.images)


def test_repeats_are_counts_and_for_ungrouped_batches() -> None:
    with pytest.raises(ValueError, match="repeats >= 1"):
        training(Numbers(12), repeats=0)
    with pytest.raises(ValueError, match="not grouped"):
        training(Numbers(12), repeats=2, group_by_aspect=True)


def test_a_process_does_not_wait_for_its_workers_at_its_end() -> None:
    # In a cycle, as a trainer and what it trains hold each other, until the very end.
    code = """
from tests.unit.data.test_loading import Numbers
from ziggurat.data.loading import EvaluationLoader
holder = [EvaluationLoader(Numbers(8), batch_size=4, divisor=1, workers=1)]
holder.append(holder)
print(sum(len(batch.infos) for batch in holder[0]))
del holder
"""
    command = [sys.executable, "-c", code]
    # Workers that are told to stop by a signal go on for so long.
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=0.9 * SECONDS_TO_SAVE, check=False
    )
    assert (done.stdout, done.returncode) == ("8\n", 0)


@pytest.mark.parametrize("is_pinned", [False, True])
def test_page_locked_memory_is_for_those_who_ask(
    is_pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: not is_pinned)
    dataset = Numbers(8)
    options = {"batch_size": 2, "divisor": 1, "workers": 0, "is_pinned": is_pinned}
    loaders = (
        EvaluationLoader(dataset, **options),  # type: ignore[arg-type]
        TrainingLoader(dataset, seed=0, drop_last=True, group_by_aspect=False, **options),  # type: ignore[arg-type]
    )
    assert [loader.pin_memory for loader in loaders] == [is_pinned] * 2
