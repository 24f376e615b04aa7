"""Batches on any number of ranks: each image where it belongs, all full, none of mixed kind."""

from hypothesis import given
from hypothesis import strategies as st

from ziggurat.data.sampling import SeededBatchSampler
from ziggurat.types import ImageSize


@st.composite
def setups(draw: st.DrawFn) -> tuple[int, int, int, bool, list[ImageSize] | None]:
    """Number of images, batch size, ranks, drop_last, sizes."""
    world_size, batch_size = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    # Enough for a full batch of one kind, whichever way the images fall.
    count = draw(st.integers(2 * world_size * batch_size, 60))
    sides = st.sampled_from([(4, 8), (8, 4), (4, 4)])
    sizes = draw(st.none() | st.lists(sides, min_size=count, max_size=count))
    return count, batch_size, world_size, draw(st.booleans()), sizes


@given(setups(), st.integers(0, 2**31), st.integers(0, 300))
def test_an_epoch(
    setup: tuple[int, int, int, bool, list[ImageSize] | None], seed: int, epoch: int
) -> None:
    count, batch_size, world_size, drop_last, sizes = setup
    ranks = [
        SeededBatchSampler(
            count,
            batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
            sizes=sizes,
        )
        for rank in range(world_size)
    ]
    for sampler in ranks:
        sampler.set_epoch(epoch)
    steps = list(zip(*ranks, strict=True))
    assert len(steps) == len(ranks[0])
    seen: list[int] = []
    for step in steps:
        keys = [key for batch in step for key in batch]
        assert all(len(batch) == batch_size for batch in step)
        assert {key[0] for key in keys} == {epoch}
        seen += [index for _, index in keys]
        if sizes is not None:
            assert len({sizes[index][1] > sizes[index][0] for _, index in keys}) == 1
    times = [seen.count(index) for index in range(count)]
    if drop_last:
        assert max(times) == 1
        num_kinds = 1 if sizes is None else 2
        assert times.count(0) <= num_kinds * (world_size * batch_size - 1)
    else:
        assert min(times) == 1
