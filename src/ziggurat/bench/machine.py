"""The machine: what it is, what its matrix products reach, how its memory is handed out."""

import ctypes
import os
import platform
from pathlib import Path
from typing import Literal

import torch

from ziggurat.bench.results import Dtype
from ziggurat.bench.work import Step
from ziggurat.errors import ZigguratError

Allocator = Literal["default", "keep"]
"""keep: glibc keeps freed memory, instead of returning large buffers and faulting them in again."""

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve")
"""Flags of /proc/cpuinfo that decide how fast products are."""
ALLOCATOR_VARIABLES = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_")
MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_MAX = -1, -4  # malloc.h
PRODUCT_SIZE = {"cpu": 2048}
PRODUCT_SIZE_ELSEWHERE = 8192
"""Side of the matrices; a GPU needs larger ones to reach its peak."""


def make_product(dtype: Dtype, device: torch.device) -> tuple[Step, int]:
    """Return a step that multiplies two large matrices, and its FLOPs.

    Its speed is the peak that models are held against. Matrices have the precision that autocast
    gives to products.
    """
    size = PRODUCT_SIZE.get(device.type, PRODUCT_SIZE_ELSEWHERE)
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    out = torch.empty_like(a)

    def multiply() -> None:
        torch.mm(a, b, out=out)

    return multiply, 2 * size**3


def describe_conditions(device: torch.device, allocator: Allocator) -> dict[str, str]:
    """Say what the figures are measured on.

    Args:
        device: Where models run.
        allocator: What `apply_allocator` was told.
    """
    conditions = {
        "device": str(device),
        "processor": processor_name(),
        "instruction sets": _instruction_sets(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        conditions["GPU"] = torch.cuda.get_device_name(device)
        conditions["float32 products"] = torch.get_float32_matmul_precision()
    else:
        conditions["allocator"] = _describe_allocator(allocator)
    return conditions


def apply_allocator(allocator: Allocator) -> None:
    """Set how this process hands out memory; it cannot be undone.

    Raises:
        ZigguratError: If freed memory is to be kept and the C library is not glibc.
    """
    if allocator == "default":
        return
    if platform.libc_ver()[0] != "glibc":
        raise ZigguratError(
            f"the allocator can be set on Linux with glibc only, this is {platform.platform()}; "
            "leave --allocator out"
        )
    libc = ctypes.CDLL(None)
    libc.mallopt(MALLOPT_MMAP_MAX, 0)  # large buffers come from the heap, too,
    libc.mallopt(MALLOPT_TRIM_THRESHOLD, -1)  # and stay there


def _describe_allocator(allocator: Allocator) -> str:
    name = " ".join(platform.libc_ver()) or "of the system"
    words = [name, "keeps freed memory" if allocator == "keep" else "default settings"]
    words += [
        f"{key}={value}"
        for key, value in sorted(os.environ.items())
        if key.startswith(ALLOCATOR_VARIABLES)
    ]
    return ", ".join(words)


def processor_name() -> str:
    """Return the name of the processor, as precisely as the system tells it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _instruction_sets() -> str:
    flags = (_cpuinfo("flags") or _cpuinfo("Features") or "").split()
    return ", ".join(name for name in INSTRUCTION_SETS if name in flags) or "not known"


def _cpuinfo(key: str) -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    values = [line.split(":", 1)[1].strip() for line in lines if line.startswith(key)]
    return values[0] if values else None
