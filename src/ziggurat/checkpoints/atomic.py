"""Write a file whole or not at all.

A run that stops while it saves, or a disk that fills up, must cost nobody the previous checkpoint:
the bytes go to a temporary file beside the target, reach the disk, and only then take its name.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ziggurat.errors import ZigguratError

LEFTOVER = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")
"""Names of files under way."""


def atomic_write(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Create or replace a file; at every moment `path` is the whole old file or the whole new one.

    Missing folders are made. A symbolic link stays and the file that it points to is replaced.

    Args:
        path: File to write.
        write: Writes the content to the open file that it is given.

    Raises:
        ZigguratError: If the disk is full or the place cannot be written; what was there before
            is still there and no temporary file is left.
    """
    target = Path(os.path.realpath(path))
    # Not `tempfile`: its files are private to the user, and weights should keep the usual rights.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        cause = _disk_error(error)
        if cause is None:
            raise
        raise ZigguratError(
            f"cannot write {path}: {cause.strerror or cause}; what was there before is unchanged, "
            "free some space or choose another place and run again"
        ) from error
    sync_folder(target.parent)


def remove_leftovers(folder: Path) -> None:
    """Delete what writers that were killed have left in a folder.

    Args:
        folder: Nobody may be writing into it.
    """
    for path in folder.glob(".*.tmp"):
        if LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _disk_error(error: BaseException) -> OSError | None:
    """Find the disk's complaint: torch.save raises a RuntimeError on top of it."""
    seen: BaseException | None = error
    while isinstance(seen, Exception) and not isinstance(seen, ZigguratError):
        if isinstance(seen, OSError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut, where the system can open folders."""
    # Windows cannot and some network file systems refuse; the content itself is already safe.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
