"""The machine: what it is, what its matrix products reach, how its memory is handed out."""

import os
import platform
from typing import Literal

import torch

from ziggurat.bench.results import Dtype
from ziggurat.bench.work import Step
from ziggurat.errors import ZigguratError
from ziggurat.ops.machine import has_glibc, keep_freed_memory, processor_entry, processor_name

Allocator = Literal["default", "keep"]
"""keep: glibc keeps freed memory, instead of returning large buffers and faulting them in again."""

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve")
"""Flags of /proc/cpuinfo that decide how fast products are."""
ALLOCATOR_VARIABLES = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_")
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
    if not has_glibc():
        raise ZigguratError(
            f"the allocator can be set on Linux with glibc only, this is {platform.platform()}; "
            "leave --allocator out"
        )
    keep_freed_memory()


def _describe_allocator(allocator: Allocator) -> str:
    name = " ".join(platform.libc_ver()) or "of the system"
    words = [name, "keeps freed memory" if allocator == "keep" else "default settings"]
    words += [
        f"{key}={value}"
        for key, value in sorted(os.environ.items())
        if key.startswith(ALLOCATOR_VARIABLES)
    ]
    return ", ".join(words)


def _instruction_sets() -> str:
    flags = (processor_entry("flags") or processor_entry("Features") or "").split()
    return ", ".join(name for name in INSTRUCTION_SETS if name in flags) or "not known"
