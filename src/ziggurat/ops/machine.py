"""The machine: what its processor is called, and how its memory is handed out."""

import ctypes
import platform
from pathlib import Path

MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_MAX = -1, -4  # malloc.h


def processor_name() -> str:
    """Return the name of the processor, as precisely as the system tells it."""
    return processor_entry("model name") or platform.processor() or platform.machine()


def processor_entry(key: str) -> str | None:
    """Return what Linux says of the first processor, or None where it says nothing.

    Args:
        key: Name of the entry in /proc/cpuinfo.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    values = [line.split(":", 1)[1].strip() for line in lines if line.startswith(key)]
    return values[0] if values else None


def has_glibc() -> bool:
    """Tell whether the C library is glibc, whose memory `keep_freed_memory` speaks of."""
    return platform.libc_ver()[0] == "glibc"


def keep_freed_memory() -> None:
    """Let glibc keep freed memory, instead of returning large buffers and faulting them in again.

    It holds for the rest of the process and for those that it starts; it cannot be undone.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(MALLOPT_MMAP_MAX, 0)  # large buffers come from the heap, too,
    libc.mallopt(MALLOPT_TRIM_THRESHOLD, -1)  # and stay there
