"""Where downloaded files are kept, and what each of them was when it first came.

Few of the published files have a published hash. The first download of a file pins its size and
SHA-256; from then on another file under the same name is refused, wherever it comes from.
"""

import dataclasses
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ziggurat.checkpoints.atomic import atomic_write
from ziggurat.errors import ZigguratError

LOG = logging.getLogger("ziggurat")

PINS = "pins.json"
OFFLINE_VARIABLES = ("ZIGGURAT_OFFLINE", "HF_HUB_OFFLINE")


@dataclass(frozen=True)
class Pin:
    """What a file was when it was first downloaded.

    Attributes:
        url: Where it came from.
        size: Its size in bytes.
        sha256: Its hash, in hexadecimal digits.
    """

    url: str
    size: int
    sha256: str


def cache_folder() -> Path:
    """Return the folder of downloads: `ZIGGURAT_CACHE`, or `ziggurat` in the user's cache."""
    own = os.environ.get("ZIGGURAT_CACHE")
    if own:
        return Path(os.path.expanduser(own))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ziggurat"


def is_offline() -> bool:
    """Tell whether the user forbids downloads, by `ZIGGURAT_OFFLINE` or `HF_HUB_OFFLINE`."""
    values = (os.environ.get(name, "").lower() for name in OFFLINE_VARIABLES)
    return any(value not in ("", "0", "false", "no", "off") for value in values)


def read_pin(folder: Path, name: str) -> Pin | None:
    """Return what a file was when it first came, or None if it never did.

    Args:
        folder: Folder of downloads.
        name: Name of the file.

    Raises:
        ZigguratError: If the list of pins is damaged.
    """
    values = _read_pins(folder).get(name)
    if values is None:
        return None
    try:
        return Pin(**values)
    except TypeError as error:
        raise ZigguratError(_damaged(folder)) from error


def write_pin(folder: Path, name: str, pin: Pin) -> None:
    """Remember what a file is.

    Args:
        folder: Folder of downloads.
        name: Name of the file.
        pin: What it is.
    """
    with alone(folder / PINS):
        content = _read_pins(folder) | {name: dataclasses.asdict(pin)}
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        atomic_write(folder / PINS, lambda file: file.write(text.encode()))


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes from doing the same; the lock goes with the process.

    Args:
        path: File that is written inside.

    Yields:
        Nothing; the lock is held until the end of the block.

    Raises:
        ZigguratError: If the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            LOG.info("another process works on %s; waiting for it", path.name)
            lock.acquire()
    except OSError as error:
        raise ZigguratError(
            f"cannot write to {path.parent} ({error.strerror or error}); set ZIGGURAT_CACHE to a "
            "folder that you can write to"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _read_pins(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads((folder / PINS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ZigguratError(_damaged(folder)) from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise ZigguratError(_damaged(folder))
    return content


def _damaged(folder: Path) -> str:
    return (
        f"{folder / PINS}, which holds the hashes of downloaded files, is damaged; remove it, and "
        "the files beside it if you do not trust them"
    )
