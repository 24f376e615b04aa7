"""A run on the CPU keeps its memory, unless it is told not to or the C library is another one."""

import platform

import pytest

from ziggurat.config.files import load_run
from ziggurat.engine import memory
from ziggurat.engine.memory import keep_memory


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told = list[str]()
    monkeypatch.setattr(memory, "apply_allocator", told.append)
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


def test_other_libraries_are_left_alone(kept: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    words = ["--data.root=/data", "--trainer.accelerator=cpu"]
    keep_memory(load_run("p2t_tiny_from_scratch", words).trainer)
    assert kept == []
