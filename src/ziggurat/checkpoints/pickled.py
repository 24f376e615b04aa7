"""Read a file of `torch.save` without running anything that is in it.

Such a file is a pickle beside the bytes of its tensors. torch itself reads it with `weights_only`,
after a look at the functions that the pickle names: a few of those that torch admits can claim any
amount of memory.
"""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from ziggurat.checkpoints.pickle_cost import check_cost
from ziggurat.checkpoints.safe_pickle import INERT, refusal, requested_names
from ziggurat.errors import ZigguratError

ZIP_MAGIC = b"PK\x03\x04"
PROTOCOL_MARK = b"\x80"
"""With which a pickle begins; its protocol is the next byte."""
TORCH_PROTOCOL = 2
LAST_PROTOCOL = 3
"""Of pickles that torch reads with `weights_only`; it writes the one above."""
LEGACY_NUMBER = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number 0x1950A86A20F9469CFC6C: files of torch < 1.6 begin with a pickle of it."""
LEGACY_HEAD = 32
"""Bytes of such a pickle, at most; from protocol 4 on a length goes before the number."""

PICKLES_IN_LEGACY_FILES = 5
"""So many stand in a row before the bytes of the tensors; the fourth holds the names."""

PLAIN = re.compile(
    r"collections\.(OrderedDict|Counter)|(builtins|__builtin__)\.set"
    r"|torch\.(\w+Storage|Size|device|b?float\w+|u?int\d+|bool|half|double|long)"
    r"|torch\.storage\.UntypedStorage|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout"
)
"""What torch puts into the pickle of a state dict. `torch.FloatTensor`, `bytearray` and their like
are left out: they make room for as many numbers as they are told."""


def is_torch_file(head: bytes) -> bool:
    """Tell by its first bytes whether `torch.save` wrote a file."""
    is_legacy = head.startswith(PROTOCOL_MARK) and LEGACY_NUMBER in head[:LEGACY_HEAD]
    return is_legacy or head.startswith(ZIP_MAGIC)


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
    stand_ins: list[Any] = [(function, name) for name, function in INERT.items()]
    try:
        foreign = _foreign_names(path, is_zip)
        if foreign:
            raise ZigguratError(refusal(path, foreign))
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except ZigguratError:
        raise
    except Exception as error:  # a damaged or hostile file may fail in any way
        has_opened = isinstance(error, pickle.UnpicklingError)
        protocol = _protocol(path, head) if has_opened else 0
        if protocol > LAST_PROTOCOL:
            raise ZigguratError(
                f"{path} was written with pickle protocol {protocol}, which cannot be read without "
                f"running it; save it again with that of torch.save, {TORCH_PROTOCOL}"
            ) from error
        raise ZigguratError(
            f"{path} is truncated or damaged ({type(error).__name__} while reading it); "
            "download or save it again"
        ) from error


def _protocol(path: Path, head: bytes) -> int:
    """Return the protocol of a file's pickle, 0 where it does not say."""
    if head.startswith(ZIP_MAGIC):
        head = _program(path)
    return head[1] if head.startswith(PROTOCOL_MARK) else 0


def _program(path: Path) -> bytes:
    """Return the pickle in an archive."""
    with zipfile.ZipFile(path) as archive:
        [entry] = [name for name in archive.namelist() if name.lower().endswith("/data.pkl")]
        return archive.read(entry)


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
    # In lower case: torch finds the parts of an archive so.
    names = [entry.filename.rpartition("/")[2].lower() for entry in entries]
    if "constants.pkl" in names:
        raise ZigguratError(
            f"{path} is a program of TorchScript, which is not run; load it with the code that it "
            "comes from and save its state_dict()"
        )
    if names.count("data.pkl") != 1:
        raise ZigguratError(
            f"{path} is an archive but not a checkpoint: it has "
            f"{names.count('data.pkl') or 'no'} data.pkl, expected one; if weights are packed in "
            "it, unpack it and give the file inside"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ZigguratError(
            f"{path} is a compressed archive, which torch.save never writes; if weights are packed "
            "in it, unpack it and give the file inside"
        )
    declared, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if declared > size:
        raise ZigguratError(
            f"{path} is damaged or hostile: its parts claim {declared} bytes and the whole file "
            f"has {size}; get the file from its source again"
        )


def _foreign_names(path: Path, is_zip: bool) -> list[str]:
    """List what a file asks for beyond tensors and plain data, without opening it.

    torch itself names only the first thing that it refuses. A file that costs too much is a
    `ZigguratError`.
    """
    names: list[str] = []
    if is_zip:
        program = _program(path)
        check_cost(program, len(program), path)
        names.extend(requested_names(program))
    else:
        size = path.stat().st_size
        with open(path, "rb") as file:
            for _ in range(PICKLES_IN_LEGACY_FILES):
                start = file.tell()
                check_cost(file, size, path)
                file.seek(start)
                names.extend(requested_names(file))
    return sorted({name for name in names if name not in INERT and not PLAIN.fullmatch(name)})
