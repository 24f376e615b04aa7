"""Give back the memory of a mapped file as soon as it has been read.

Weights are mapped, not read: the system brings in the parts of the file that are touched, and drops
them only when memory runs short. Until then they count as memory of the process, so that a model
that is being loaded would need twice its size.
"""

import contextlib
import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

Release = Callable[[Tensor], None]
"""Called with a tensor whose values are not needed for now; reading it again remains possible."""


def keep(value: Tensor) -> None:
    """Release nothing: the tensor is no part of a mapped file."""


def release_of(path: Path) -> Release:
    """Return what releases the tensors that are mapped from a file.

    It does nothing to other tensors, and nothing where the system cannot tell or is not Linux.

    Args:
        path: A file that is mapped now, and whose mapping nobody writes to.
    """
    ranges = _mapped_ranges(path)
    if not ranges:
        return keep
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def release(value: Tensor) -> None:
        for start, end in ranges:
            # The whole file, not the tensor alone: the system reads ahead, into its neighbours.
            # Should it fail, the pages stay a while longer and nothing else is lost.
            if start <= value.data_ptr() < end:
                madvise(start, end - start, mmap.MADV_DONTNEED)

    return release


def _mapped_ranges(path: Path) -> list[tuple[int, int]]:
    """Return the addresses at which this process has mapped a file, as Linux lists them."""
    ranges = []
    real = os.path.realpath(path)
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8") as lines:
        for line in lines:
            addresses, *_, name = line.rstrip("\n").split(maxsplit=5)
            if name == real:
                start, _, end = addresses.partition("-")
                ranges.append((int(start, 16), int(end, 16)))
    return ranges
