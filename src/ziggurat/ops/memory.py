"""How much memory a device has left."""

import ctypes
import platform
from pathlib import Path

import torch

MEMORY_FILE = Path("/proc/meminfo")


def available_bytes(device: torch.device) -> int | None:
    """Return the bytes that can still be taken, or None where the system does not tell.

    Args:
        device: Of which memory.
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    if device.type != "cpu" or not MEMORY_FILE.exists():
        return None
    for line in MEMORY_FILE.read_text().splitlines():
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            return int(amount.split()[0]) * 1024 + _free_in_heap()
    return None


class _HeapState(ctypes.Structure):
    """`struct mallinfo2` of malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def _free_in_heap() -> int:
    """Return the bytes that glibc keeps for this process, freed; 0 where it does not tell."""
    if platform.libc_ver()[0] != "glibc":
        return 0
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):  # before 2.33
        return 0
    libc.mallinfo2.restype = _HeapState
    return int(libc.mallinfo2().fordblks)
