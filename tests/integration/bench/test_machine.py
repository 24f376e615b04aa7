"""The machine is described, its peak measured, its allocator set."""

import ctypes
import platform
from pathlib import Path

import pytest
import torch

from ziggurat.bench import machine
from ziggurat.bench.machine import apply_allocator, describe_conditions, make_product
from ziggurat.errors import ZigguratError

CPU = torch.device("cpu")


@pytest.mark.parametrize(("dtype", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_product(dtype: str, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.PRODUCT_SIZE, "cpu", 16)
    products = []
    monkeypatch.setattr(torch, "mm", lambda a, b, out: products.append((a.shape, a.dtype)))
    step, flops = make_product(dtype, CPU)  # type: ignore[arg-type]
    step()
    assert flops == 2 * 16**3
    assert products == [((16, 16), kind)]


def test_conditions_name_threads_and_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "123")
    conditions = describe_conditions(CPU, "default")
    assert conditions["device"] == "cpu"
    assert conditions["threads"].startswith(f"{torch.get_num_threads()} of ")
    assert "default settings" in conditions["allocator"]
    assert "MALLOC_TRIM_THRESHOLD_=123" in conditions["allocator"]
    assert "keeps freed memory" in describe_conditions(CPU, "keep")["allocator"]


def test_processor_where_linux_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fail)
    conditions = describe_conditions(CPU, "default")
    assert conditions["instruction sets"] == "not known"
    assert conditions["processor"]


def test_instruction_sets_are_those_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "model name : A\nflags : fpu avx2 avx512f amx_bf16\nmodel name : B\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    conditions = describe_conditions(CPU, "default")
    assert conditions["instruction sets"] == "avx2, avx512f, amx_bf16"
    assert conditions["processor"] == "A"


def test_allocator_keeps_memory_with_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Library:
        def mallopt(self, parameter: int, value: int) -> int:
            calls.append((parameter, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.40"))
    apply_allocator("default")
    assert calls == []
    apply_allocator("keep")
    assert calls == [(-4, 0), (-1, -1)]  # M_MMAP_MAX, M_TRIM_THRESHOLD


def test_allocator_of_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with pytest.raises(ZigguratError, match="leave --allocator out"):
        apply_allocator("keep")
