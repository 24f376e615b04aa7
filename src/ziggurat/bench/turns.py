"""Contestants take turns, A B C A B C: what disturbs the machine disturbs all of them alike."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from ziggurat.bench.work import Step

Key = TypeVar("Key")

TURN_SECONDS = 0.5
"""A turn is as many steps as fit into this time, at least one."""


@dataclass(frozen=True)
class WarmStep:
    """A step that has been taken before.

    Attributes:
        step: Takes one step.
        preparation: Seconds of its first two steps: compiling, choosing kernels, first touch.
        steps_per_turn: How many steps make a turn.
    """

    step: Step
    preparation: float
    steps_per_turn: int


def warm_up(step: Step, device: torch.device) -> WarmStep:
    """Take two untimed steps; the second says how many make a turn.

    Args:
        step: Takes one step.
        device: What to wait for.
    """
    first = time_steps(step, 1, device)
    second = time_steps(step, 1, device)
    return WarmStep(step, first + second, max(1, math.floor(TURN_SECONDS / max(second, 1e-6))))


def take_turns(
    steps: Mapping[Key, WarmStep],
    rounds: int,
    device: torch.device,
    on_turn: Callable[[int, int], None],
) -> dict[Key, tuple[float, ...]]:
    """Time all of them in alternation.

    Args:
        steps: Warm steps by contestant, in the order of their turns.
        rounds: Number of turns of each.
        device: What to wait for.
        on_turn: Called after each turn with how many are done, and how many there are.

    Returns:
        Seconds a step of each contestant, one figure a round.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in steps}
    for round_number in range(rounds):
        for position, (key, warm) in enumerate(steps.items(), start=1):
            seconds[key].append(time_steps(warm.step, warm.steps_per_turn, device))
            on_turn(round_number * len(steps) + position, rounds * len(steps))
    return {key: tuple(figures) for key, figures in seconds.items()}


def time_steps(step: Step, count: int, device: torch.device) -> float:
    """Return the seconds a step, averaged over `count` steps.

    Args:
        step: Takes one step.
        count: Number of steps.
        device: What to wait for at the end.
    """
    begin = time.perf_counter()
    for _ in range(count):
        step()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return (time.perf_counter() - begin) / count
