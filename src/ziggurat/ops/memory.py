"""How much memory a device has left."""

import ctypes
import platform
from pathlib import Path

import torch

from ziggurat.errors import ZigguratError

MEMORY_FILE = Path("/proc/meminfo")
GROUPS_FILE = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
STATE_FILE = Path("/proc/self/status")
KIB = 1024


class TooLittleMemoryError(ZigguratError, torch.OutOfMemoryError):
    """What would not fit was refused before it ran; handled as a memory that was full is."""


def available_bytes(device: torch.device) -> int | None:
    """Return the bytes that can still be taken, or None where the system does not tell.

    On the CPU it is what the machine has left, or less where a container or the shell set a limit.

    Args:
        device: Of which memory.
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    if device.type != "cpu" or not MEMORY_FILE.exists():
        return None
    bounds = (_table(MEMORY_FILE).get("MemAvailable"), _left_in_groups(), _left_of_addresses())
    known = [bound for bound in bounds if bound is not None]
    return min(known) + _free_in_heap() if known else None


def _left_in_groups() -> int | None:
    """Return what the control groups of this process leave it, versions 2 and 1; see cgroups(7)."""
    if not GROUPS_FILE.exists():
        return None
    left = []
    for line in GROUPS_FILE.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, names = GROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = GROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # A limit of a group above counts as well; in a container the path may be the host's, and
        # what stands at the root is the container's own.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                left += _left_in_group(folder, *names)
    return min(left, default=None)


def _left_in_group(folder: Path, limit: str, usage: str, idle: str) -> list[int]:
    """Return what is left in one group, files that are only cached not counted; or nothing."""
    if not (folder / limit).exists() or not (folder / usage).exists():
        return []
    most = (folder / limit).read_text().strip()
    if most == "max":
        return []
    state = folder / "memory.stat"
    lines = state.read_text().splitlines() if state.exists() else []
    cached = dict(line.split() for line in lines).get(idle, 0)
    return [max(0, int(most) - int((folder / usage).read_text()) + int(cached))]


def _left_of_addresses() -> int | None:
    """Return what `ulimit -v` leaves, or None without it."""
    if not STATE_FILE.exists():
        return None
    import resource  # not on Windows

    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    taken = _table(STATE_FILE).get("VmSize")
    if most == resource.RLIM_INFINITY or taken is None:
        return None
    return max(0, most - taken)


def _table(file: Path) -> dict[str, int]:
    """Read the amounts of a file of /proc, in bytes."""
    pairs = (line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
    return {name: int(amount.split()[0]) * KIB for name, amount in pairs if amount.endswith("kB")}


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
