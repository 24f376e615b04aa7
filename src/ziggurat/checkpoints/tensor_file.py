"""Open a file that should hold tensors: first checks, and the safetensors format."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ziggurat.errors import ZigguratError

HEAD_BYTES = 64
"""How much of a file is looked at to recognise it."""


def first_bytes(path: Path) -> bytes:
    """Return the beginning of a file that can be read and is not empty.

    Raises:
        ZigguratError: If there is no such file, it is a folder, unreadable or empty.
    """
    if path.is_dir():
        raise ZigguratError(f"{path} is a folder, expected a file of weights; name the file in it")
    if not path.exists():
        raise ZigguratError(f"there is no file {path}; check the path")
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise ZigguratError(
            f"cannot read {path}: {error.strerror}; check the file and its permissions"
        ) from error
    if not head:
        raise ZigguratError(f"{path} is empty, expected weights; download or save it again")
    return head


def is_safetensors(path: Path, head: bytes) -> bool:
    """Tell by name or content: eight bytes of length, then a JSON header."""
    return path.suffix == ".safetensors" or head[8:9] == b"{"


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return metadata and tensors, which stay on disk until they are used."""
    with _opened(path) as file:
        names = list(file.keys())
        return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in names}


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata alone, without touching a tensor."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file.

    Yields:
        What `safe_open` gives.

    Raises:
        ZigguratError: If the file is truncated, damaged or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, RuntimeError, ValueError, OverflowError, OSError) as error:
        raise ZigguratError(
            f"{path} is truncated, damaged or no safetensors file ({error}); "
            "download or save it again"
        ) from error
