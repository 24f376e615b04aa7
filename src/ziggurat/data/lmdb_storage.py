"""Images in an LMDB: as `ziggurat data pack` writes it, or with file names as keys.

ours       "image/0000000012" -> file, for every image; "classes", "labels", "names",
"name_ends" -> all of them at once; "format"
others'    "n01440764_10026.JPEG" -> file, and a list with the labels beside the LMDB; the tool
of the official GPViT writes this, and "total" -> the number of images
"""

import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ziggurat.data.decode import ImageDecodeError
from ziggurat.data.list_file import find_class_names, find_list, read_list
from ziggurat.data.names import NameTable
from ziggurat.data.storage import match_classes
from ziggurat.errors import ZigguratError

DATA_FILE = "data.mdb"
FORMAT = b"ziggurat 1"


@runtime_checkable
class _Transaction(Protocol):
    """What is used of `lmdb.Transaction`, a package without types."""

    def __enter__(self) -> "_Transaction": ...

    def __exit__(self, *error: object) -> None: ...

    def get(self, key: bytes) -> bytes | None:
        """Return what is stored under a key, or None."""


@runtime_checkable
class _Environment(Protocol):
    """What is used of `lmdb.Environment`."""

    def begin(self) -> _Transaction:
        """Start reading."""

    def close(self) -> None:
        """Close the file."""


def image_key(index: int) -> bytes:
    """Key of an image in an LMDB of ours; the order of the keys is that of the images."""
    return b"image/%010d" % index


def import_lmdb() -> ModuleType:
    """Import the package, or name the extra that brings it.

    Raises:
        ZigguratError: If it is not installed.
    """
    try:
        import lmdb
    except ImportError:
        raise ZigguratError(
            "LMDB data need the package lmdb, which is not installed; run "
            "`pip install 'ziggurat[data]'`"
        ) from None
    return lmdb


class LmdbStorage:
    """Images by key. Every process opens the file by itself.

    Args:
        folder: Folder with `data.mdb`.
        names: Name of each image.
        labels: Class of each image.
        classes: Name of each label.
        is_ours: Whether keys are numbers; otherwise they are the last part of the names.
    """

    def __init__(
        self,
        folder: Path,
        names: NameTable,
        labels: Int64[Tensor, " N"],
        classes: tuple[str, ...],
        *,
        is_ours: bool,
    ) -> None:
        self.folder = folder.resolve()
        self.names = names
        self.labels = labels
        self.classes = classes
        self.is_ours = is_ours

    def name(self, index: int) -> str:
        """Place of the LMDB and name of an image."""
        return os.path.join(self.folder, os.fsdecode(self.names[index]))

    def key(self, index: int) -> bytes:
        """What the file of an image is stored under."""
        return image_key(index) if self.is_ours else self.names[index].rpartition(b"/")[2]

    def read(self, index: int) -> bytes:
        """Return the file of an image.

        Raises:
            ImageDecodeError: If there is none.
        """
        with _environment(self.folder).begin() as transaction:
            data = transaction.get(self.key(index))
        if data is None:
            raise ImageDecodeError(self.name(index), "the LMDB has no such entry")
        return data


def find_lmdb(root: Path, split: str) -> Path | None:
    """Return the folder of a split's LMDB, or None where there is none.

    Args:
        root: Folder of the data set.
        split: Name of the split.
    """
    places = (root / split, root / f"{split}.lmdb", root / "imagenet_lmdb" / split)
    return next((place for place in places if (place / DATA_FILE).is_file()), None)


def open_lmdb(
    root: Path, split: str, folder: Path, classes: Sequence[str] | None = None
) -> LmdbStorage:
    """Open an LMDB of either layout.

    Args:
        root: Folder of the data set.
        split: Name of the split.
        folder: Folder with `data.mdb`.
        classes: Classes in the order of their labels; by default those of the data.

    Raises:
        ZigguratError: If it is damaged, or is of another layout and has no list beside it.
    """
    folder = folder.resolve()
    with _environment(folder).begin() as transaction:
        written = transaction.get(b"format")
        if written is not None:
            return _open_ours(folder, transaction, written, classes)
    # The official layout has meta/train.txt beside imagenet_lmdb/train/data.mdb.
    path = find_list(root, split) or find_list(root.parent, split)
    if path is None:
        raise ZigguratError(
            f"{folder} is no LMDB of `ziggurat data pack`, and its labels are nowhere; add "
            f"{root / 'meta' / (split + '.txt')} with lines like 'n01440764_10026.JPEG 0'"
        )
    own = find_class_names(root)
    counted = own or classes
    names, labels = read_list(path, None if counted is None else len(counted))
    labels, known = match_classes(path, labels, own, classes)
    storage = LmdbStorage(folder, names, labels, known, is_ours=False)
    with _environment(folder).begin() as transaction:
        if transaction.get(storage.key(0)) is None:
            raise ZigguratError(
                f"{folder} has no entry {os.fsdecode(storage.key(0))!r}, the first image of "
                f"{path}; the keys of an LMDB are file names without folders"
            )
    return storage


def _open_ours(
    folder: Path, transaction: _Transaction, written: bytes, classes: Sequence[str] | None
) -> LmdbStorage:
    if written != FORMAT:
        raise ZigguratError(
            f"{folder} is of the format {os.fsdecode(written)!r}, expected {FORMAT.decode()!r}; "
            "pack the data again"
        )
    tables = [
        transaction.get(key) or b"" for key in (b"classes", b"labels", b"names", b"name_ends")
    ]
    own = tuple(json.loads(tables[0]))
    labels = torch.from_numpy(np.frombuffer(tables[1], "<i8").astype(np.int64))
    names = NameTable.from_bytes(tables[2], np.frombuffer(tables[3], "<i8"))
    labels, known = match_classes(folder, labels, own, classes)
    return LmdbStorage(folder, names, labels, known, is_ours=True)


_open: dict[Path, _Environment] = {}
"""LMDB allows a file to be opened once in a process."""


def _environment(folder: Path) -> _Environment:
    """Return the open file of a resolved folder."""
    if folder not in _open:
        _open[folder] = _open_environment(folder)
    return _open[folder]


def close_environments() -> None:
    """Close all files in this process; what reads one again opens it again."""
    while _open:
        _open.popitem()[1].close()


# An open LMDB must not cross a fork: parent and worker open their own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=close_environments)


def _open_environment(folder: Path) -> _Environment:
    lmdb = import_lmdb()
    try:
        # No lock file: data sets are often read-only, and nobody writes to a finished one.
        environment = lmdb.open(
            str(folder), readonly=True, lock=False, readahead=False, max_readers=1
        )
        info, pages = environment.info(), environment.stat()["psize"]
    except (lmdb.Error, OSError, struct.error) as error:
        raise ZigguratError(
            f"cannot open the LMDB {folder}: {error}; it is damaged or no LMDB, pack or copy it "
            "again"
        ) from error
    expected, found = (info["last_pgno"] + 1) * pages, (folder / DATA_FILE).stat().st_size
    if found < expected:
        environment.close()
        # Reading what is missing would kill the process with a signal.
        raise ZigguratError(
            f"{folder / DATA_FILE} is cut short: it has {found} bytes, expected {expected}; pack "
            "or copy it again"
        )
    return environment
