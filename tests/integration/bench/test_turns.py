"""Turns alternate, and warm-up is not timed."""

import time

import pytest
import torch

from ziggurat.bench import turns
from ziggurat.bench.turns import WarmStep, take_turns, time_steps, warm_up
from ziggurat.bench.work import Step

CPU = torch.device("cpu")


class Clock:
    """Steps that take a known time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.taken: list[str] = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def step(self, name: str, *seconds: float) -> Step:
        """Return a step that takes these times, the last one ever after."""
        left = list(seconds)

        def take() -> None:
            self.taken.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return take


def test_turns_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    steps = {
        "a": WarmStep(clock.step("a", 1.0, 3.0, 2.0), 0.0, steps_per_turn=1),
        "b": WarmStep(clock.step("b", 0.25), 0.0, steps_per_turn=2),
    }
    told = []
    seconds = take_turns(steps, 3, CPU, lambda done, total: told.append((done, total)))
    assert "".join(clock.taken) == "abb" * 3
    assert seconds == {"a": (1.0, 3.0, 2.0), "b": (0.25, 0.25, 0.25)}
    assert told == [(i, 6) for i in range(1, 7)]


def test_short_steps_are_taken_many_times_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    warm = warm_up(clock.step("a", 10.0, 0.125), CPU)
    assert warm.preparation == 10.125  # the first one compiles; it says nothing of the speed
    assert warm.steps_per_turn == turns.TURN_SECONDS / 0.125
    assert clock.taken == ["a", "a"]
    assert warm_up(clock.step("b", 5.0), CPU).steps_per_turn == 1


def test_time_is_an_average(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert time_steps(clock.step("a", 1.0, 2.0, 6.0), 3, CPU) == 3.0
