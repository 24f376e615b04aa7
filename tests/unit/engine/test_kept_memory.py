"""A run on the CPU keeps its memory, unless it is told not to or the C library is another one."""

import platform
from pathlib import Path

import pytest
import torch

from ziggurat.config.files import load_run
from ziggurat.engine import budget, memory
from ziggurat.engine.memory import keep_memory
from ziggurat.engine.train import train


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told = list[str]()
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: told.append("keep"))
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.40"))
    return told


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--trainer.accelerator=cpu"], ["keep"]),
        (["--trainer.accelerator=cpu", "--trainer.keep_memory=false"], []),
        (["--trainer.accelerator=cuda"], []),
    ],
)
def test_who_keeps_memory(words: list[str], expected: list[str], kept: list[str]) -> None:
    config = load_run("p2t_tiny_from_scratch", ["--data.root=/data", *words])
    keep_memory(config.trainer)
    assert kept == expected


@pytest.mark.parametrize("has_gpu", [True, False])
def test_auto_means_the_cpu_where_there_is_nothing_else(
    has_gpu: bool, kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    keep_memory(load_run("p2t_tiny_from_scratch", ["--data.root=/data"]).trainer)
    assert kept == ([] if has_gpu else ["keep"])


class _AskedError(Exception):
    pass


def _ask(_: object) -> None:
    raise _AskedError


def test_runs_ask_for_it_before_they_take_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_run("p2t_tiny_from_scratch", ["--data.root=/data", "--trainer.accelerator=cpu"])
    monkeypatch.setattr(budget, "keep_memory", _ask)
    with pytest.raises(_AskedError):
        budget.fit_to_minutes(config, 1.0, print)
    monkeypatch.setattr("ziggurat.engine.train.keep_memory", _ask)
    with pytest.raises(_AskedError):
        train(config, tmp_path / "run")


def test_other_libraries_are_left_alone(kept: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    words = ["--data.root=/data", "--trainer.accelerator=cpu"]
    keep_memory(load_run("p2t_tiny_from_scratch", words).trainer)
    assert kept == []
