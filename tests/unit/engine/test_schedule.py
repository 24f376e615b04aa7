"""The learning rate by hand: warm-up, cosine, steps, and the official once-an-epoch update."""

import math
from typing import Literal

import pytest

from ziggurat.config import ScheduleConfig, load_run
from ziggurat.engine.schedule import Schedule, build_schedule
from ziggurat.errors import ZigguratError


@pytest.mark.parametrize(
    ("num_batches", "steps_per_epoch"), [(8, 2), (9, 3), (3, 1)], ids=["whole", "rest", "few"]
)
def test_batches_are_added_up_to_steps(num_batches: int, steps_per_epoch: int) -> None:
    words = ["--data.root=/data", "--trainer.accumulate=4", "--trainer.max_epochs=5"]
    config = load_run("p2t_tiny_300e_imagenet", words)
    schedule = build_schedule(config, num_batches)
    assert schedule.steps_per_epoch == steps_per_epoch
    assert schedule.total_steps == 5 * steps_per_epoch
    assert (schedule.config, schedule.lr) == (config.schedule, config.optimizer.lr)


def test_steps_with_a_linear_warmup() -> None:
    config = ScheduleConfig("step", warmup_steps=500, warmup_start=0.001, milestones=(8, 11))
    schedule = Schedule(config, lr=1e-4, total_steps=12_000, steps_per_epoch=1000)
    assert schedule.factor(0) == pytest.approx(0.001)
    # lr * (1 - (1 - it / N) * (1 - ratio)) at it = 250, N = 500
    assert schedule.factor(250) == pytest.approx(1 - 0.5 * 0.999)
    assert [schedule.factor(step) for step in (500, 7999)] == [1.0, 1.0]
    assert [schedule.factor(step) for step in (8000, 10_999)] == pytest.approx([0.1, 0.1])
    assert schedule.factor(11_000) == pytest.approx(0.01)


def test_milestones_in_steps_are_those_of_the_published_fpt_runs() -> None:
    config = ScheduleConfig(
        "step", warmup_steps=500, warmup_start=1 / 3, milestone_steps=(120_000, 160_000)
    )
    schedule = Schedule(config, lr=0.05, total_steps=180_000, steps_per_epoch=7330)
    official = {  # of the mask configuration, as its code computes it
        0: 0.016666666666666666,
        1: 0.016733333333333333,
        100: 0.023333333333333334,
        250: 0.03333333333333333,
        499: 0.049933333333333337,
        500: 0.05,
        119_999: 0.05,
        120_000: 0.005,
        159_999: 0.005,
        160_000: 0.0005,
        179_999: 0.0005,
    }
    for step, lr in official.items():
        assert 0.05 * schedule.factor(step) == pytest.approx(lr), step


def test_polynomial_falls_from_the_first_step_and_is_multiplied_by_the_warmup() -> None:
    config = ScheduleConfig("poly", power=0.9, min_lr=1e-6, warmup_steps=100, warmup_start=0.01)
    schedule = Schedule(config, lr=1e-4, total_steps=1000, steps_per_epoch=10)
    for step in (0, 50, 99):  # mmseg: lr_poly * (1 - (1 - it / N) * (1 - ratio))
        poly = 0.01 + 0.99 * (1 - step / 1000) ** 0.9
        assert schedule.factor(step) == pytest.approx(poly * (1 - (1 - step / 100) * 0.99))
    assert schedule.factor(500) == pytest.approx(0.01 + 0.99 * 0.5**0.9)
    assert schedule.factor(1000) == schedule.factor(2000) == pytest.approx(0.01)
    line = Schedule(ScheduleConfig("poly"), lr=1.0, total_steps=4, steps_per_epoch=2)
    assert [line.factor(step) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_cosine_by_the_step_ends_at_min_lr() -> None:
    config = ScheduleConfig("cosine", min_lr=1e-5)
    schedule = Schedule(config, lr=1e-3, total_steps=100, steps_per_epoch=10)
    assert schedule.factor(0) == 1.0
    assert schedule.factor(50) == pytest.approx((1 + 0.01) / 2)
    assert schedule.factor(100) == schedule.factor(150) == pytest.approx(0.01)


def test_official_update_once_an_epoch_lags_by_one() -> None:
    config = ScheduleConfig(
        "cosine", warmup_epochs=20.0, warmup_start=0.001, min_lr=1e-5, update="epoch"
    )
    schedule = Schedule(config, lr=1e-3, total_steps=3000, steps_per_epoch=10)
    lrs = [1e-3 * schedule.factor(10 * epoch + 3) for epoch in range(300)]
    assert lrs[0] == lrs[1] == pytest.approx(1e-6)
    assert lrs[2] == pytest.approx(1e-6 + (1e-3 - 1e-6) / 20)
    # The first epoch after the warm-up sees the cosine at 20 of 300, without an offset.
    expected = 1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + math.cos(math.pi * 20 / 300))
    assert lrs[21] == pytest.approx(expected)
    assert schedule.factor(210) == schedule.factor(219)


def test_warmup_in_epochs_may_be_a_fraction() -> None:
    config = ScheduleConfig("cosine", warmup_epochs=0.5, warmup_start=0.0)
    schedule = Schedule(config, lr=1.0, total_steps=100, steps_per_epoch=10)
    assert [schedule.factor(step) for step in (0, 1)] == pytest.approx([0.0, 0.2])


def test_warmup_as_long_as_the_run_becomes_a_tenth_of_it() -> None:
    schedule = Schedule(ScheduleConfig("cosine", warmup_steps=500), 1.0, 50, 10)
    assert schedule.shortening == "warm-up shortened from 500 to 5 steps: the run has 50"
    assert schedule.factor(0) == pytest.approx(0.001)
    assert schedule.factor(4) < 1.0 and schedule.factor(5) > 0.9
    shortest = Schedule(ScheduleConfig("cosine", warmup_epochs=20.0), 1.0, 2, 10)
    assert shortest.shortening == "warm-up shortened from 200 to 0 steps: the run has 2"
    assert shortest.factor(0) == 1.0
    fits = Schedule(ScheduleConfig("cosine", warmup_steps=49), 1.0, 50, 10)
    assert (fits.warmup_steps, fits.shortening) == (49.0, None)


def test_defaults_of_warmup_start_and_gamma_are_those_that_help_names() -> None:
    config = ScheduleConfig("step", warmup_steps=10, milestones=(2,))
    schedule = Schedule(config, lr=1.0, total_steps=100, steps_per_epoch=20)
    assert [schedule.factor(step) for step in (0, 10, 40)] == pytest.approx([0.001, 1.0, 0.1])
    config = ScheduleConfig("step", warmup_steps=10, warmup_start=0.5, milestones=(2,), gamma=0.2)
    schedule = Schedule(config, lr=1.0, total_steps=100, steps_per_epoch=20)
    assert [schedule.factor(step) for step in (0, 10, 40)] == pytest.approx([0.5, 1.0, 0.2])


@pytest.mark.parametrize(
    ("mode", "factors"),
    [
        # Cosine over 8 steps, 2 of them warm-up from 0.5, without a least learning rate.
        ("replaces", [0.5, 0.75, (1 + math.cos(math.pi / 4)) / 2, 0.5]),
        ("multiplies", [0.5, 0.75 * (1 + math.cos(math.pi / 8)) / 2, None, 0.5]),
        ("precedes", [0.5, 0.75, 1.0, (1 + math.cos(math.pi / 3)) / 2]),
    ],
)
def test_how_a_warmup_and_a_cosine_go_together(
    mode: Literal["replaces", "multiplies", "precedes"], factors: list[float | None]
) -> None:
    config = ScheduleConfig("cosine", warmup_steps=2, warmup_start=0.5, warmup_mode=mode)
    schedule = Schedule(config, lr=1.0, total_steps=8, steps_per_epoch=4)
    for step, factor in zip((0, 1, 2, 4), factors, strict=True):
        expected = (1 + math.cos(math.pi * step / 8)) / 2 if factor is None else factor
        assert schedule.factor(step) == pytest.approx(expected), step


def test_update_at_the_end_of_an_epoch_runs_ahead_by_one() -> None:
    config = ScheduleConfig(
        "cosine",
        warmup_epochs=3.0,
        warmup_start=0.1,
        warmup_mode="precedes",
        min_lr=0.1,
        update="epoch_end",
    )
    schedule = Schedule(config, lr=1.0, total_steps=100, steps_per_epoch=10)
    factors = [schedule.factor(10 * epoch + 3) for epoch in range(10)]
    assert factors[:3] == pytest.approx([0.4, 0.7, 1.0])
    assert factors[3] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 7)))
    assert factors[9] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("step", "share_of_time", "expected"),
    [
        (40, 0.1, 40.0),  # faster than planned: the steps lead
        (40, 0.5, 60.0),  # half the time of 80 steps that began after 20
        (40, 1.0, 100.0),
        (40, 1.7, 100.0),  # the last step ends after its time
    ],
)
def test_a_run_that_must_end_in_time_takes_the_later_of_step_and_clock(
    step: int, share_of_time: float, expected: float
) -> None:
    schedule = Schedule(ScheduleConfig("cosine", follow_clock=True), 1.0, 100, 10)
    position = schedule.keep_pace(step, first_step=20, share_of_time=share_of_time)
    assert position == pytest.approx(expected)
    assert schedule.factor(position) == pytest.approx((1 + math.cos(math.pi * expected / 100)) / 2)


def test_min_lr_above_lr_is_refused() -> None:
    with pytest.raises(ZigguratError, match="schedule.min_lr must be at most"):
        Schedule(ScheduleConfig("cosine", min_lr=0.1), 0.01, 40, 10)
