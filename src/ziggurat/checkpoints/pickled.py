"""Read a file of `torch.save` without running anything that is in it.

Such a file is a pickle, and a pickle is a program. Only the part of that language that builds
tensors and plain data is understood here; a file that asks for more is refused by name.
"""

import argparse
import contextlib
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from ziggurat.errors import ZigguratError

ZIP_MAGIC = b"PK\x03\x04"

NUMPY_SCALAR: Any = np.float64(0).__reduce__()[0]

# What official training scripts put beside the weights: their arguments, and metrics as NumPy
# scalars. All of it is inert data.
INERT: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")),
    (NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
]
PICKLES_IN_OLD_FILES = 5
"""Files of torch < 1.6 are several pickles in a row, the fourth holds the names."""

HARMLESS = ("torch.", "collections.", "argparse.", "numpy.", "_codecs.")


def read_pickled(path: Path, head: bytes) -> object:
    """Return what `torch.save` wrote; tensors of newer files stay on disk until they are used.

    Args:
        path: The file.
        head: Its first bytes.

    Raises:
        ZigguratError: If the file is truncated, no checkpoint, or wants to run code.
    """
    is_zip = head.startswith(ZIP_MAGIC)
    if is_zip:
        _check_archive(path)
    try:
        with torch.serialization.safe_globals(INERT), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged or hostile file may fail in any way
        wanted = [*_foreign_names(path, is_zip), *re.findall(r"GLOBAL (\S+)", str(error))]
        if wanted:
            shown = ", ".join(list(dict.fromkeys(wanted))[:3])
            raise ZigguratError(
                f"{path} was refused and nothing in it was run: on opening it asks for "
                f"{shown}, but a checkpoint may hold only tensors and plain data; get a file with "
                "a plain state dict, from a source that you trust"
            ) from error
        if is_zip or head.startswith(b"\x80"):
            raise ZigguratError(
                f"{path} is truncated or damaged ({type(error).__name__} while reading it); "
                "download or save it again"
            ) from error
        raise ZigguratError(
            f"{path} is not a checkpoint: expected a .pth, .pt or .safetensors file, got one that "
            f"begins with {head[:24]!r}; check that the download gave the file and not a page"
        ) from error


def _check_archive(path: Path) -> None:
    """Refuse archives that torch never writes, above all those that grow when they are unpacked.

    Raises:
        ZigguratError: If the archive is damaged or was written by something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ZigguratError(
            f"{path} is truncated or damaged ({error}); download or save it again"
        ) from error
    if not any(entry.filename.endswith("data.pkl") for entry in entries):
        raise ZigguratError(
            f"{path} is an archive but not a checkpoint: it has no data.pkl; if weights are packed "
            "in it, unpack it and give the file inside"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ZigguratError(
            f"{path} is a compressed archive, which torch.save never writes; if weights are packed "
            "in it, unpack it and give the file inside"
        )


def _foreign_names(path: Path, is_zip: bool) -> list[str]:
    """List what a pickle asks for beyond tensors and plain data, by reading, not by running.

    torch names only the first thing that it refuses, and none in a pickle of a newer protocol.
    """
    names: list[str] = []
    with contextlib.suppress(Exception):  # the end of a damaged file: report what was seen
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.namelist():
                    if entry.endswith("data.pkl"):
                        with archive.open(entry) as program:
                            names.extend(_requested_names(program))
        else:
            with open(path, "rb") as file:
                for _ in range(PICKLES_IN_OLD_FILES):
                    names.extend(_requested_names(file))
    return sorted({name for name in names if not name.startswith(HARMLESS)})


def _requested_names(file: IO[bytes]) -> Iterator[str]:
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)
