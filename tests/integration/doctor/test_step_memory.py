"""The memory of a step is measured without its gradients, which are counted by themselves."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ziggurat.doctor import speed
from ziggurat.doctor.memory import step_memory
from ziggurat.doctor.plain import plain_batch
from ziggurat.doctor.step import training_step
from ziggurat.doctor.subject import Subject

Opened = Callable[..., Subject]


def gradients(subject: Subject) -> list[Tensor]:
    return [p.grad for p in subject.model.parameters() if p.grad is not None]


def test_gradients_take_the_place_of_others_or_are_added(opened: Opened) -> None:
    subject = opened("classification")
    subject.model.eval()  # each step computes the same
    batch = plain_batch(subject, [0, 1], 32)
    norms = []
    for adds_up in (False, False, True):
        before = gradients(subject)
        training_step(subject, batch, "32", adds_up=adds_up)
        norms.append(torch.nn.utils.get_total_norm(gradients(subject)))
    torch.testing.assert_close(torch.stack(norms), norms[0] * torch.tensor([1.0, 1.0, 2.0]))
    assert all(now is then for now, then in zip(gradients(subject), before, strict=True))


def test_the_memory_of_gradients_is_there_before_a_gpu_is_measured(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[bool] = []

    def step(*_: Any, adds_up: bool = False) -> None:
        steps.append(adds_up)

    monkeypatch.setattr(speed, "training_step", step)
    measured = SimpleNamespace()

    def measure(*_: Any) -> Any:
        measured.bytes = len(steps)
        return nullcontext(measured)

    monkeypatch.setattr(speed, "step_memory", measure)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: None)
    subject = replace(opened("classification"), device=torch.device("cuda"))
    assert speed._step(subject, 2, 32).bytes == 1  # after one step, in which they were made
    assert steps == [False, True]


def test_a_step_that_takes_nothing_divides_nothing(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "available_bytes", lambda device: 1000)
    finding = speed._memory(opened("classification"), 0.0, "measured")
    assert finding.verdict == "error"


def test_weights_are_no_part_of_a_step() -> None:
    """A linear layer keeps a view of its weights for its input's gradient."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    images = torch.randn(2, 64, requires_grad=True)
    with step_memory(torch.device("cpu"), model) as memory:
        model(images)
    assert memory.bytes == 4 * (images.numel() + 2 * 64)
