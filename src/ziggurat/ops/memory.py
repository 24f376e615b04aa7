"""How much memory a device has left."""

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
            return int(amount.split()[0]) * 1024
    return None
