"""Where labelled images are stored: files here; `lmdb_storage` and `shards` hold packed ones.

A storage gives the bytes of any image by its number, in an order that is the same on every
machine, so that a run can shuffle, stop and go on without knowing how the images are kept.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from ziggurat.data.decode import read_file
from ziggurat.data.names import NameTable
from ziggurat.errors import ZigguratError, did_you_mean

_MOST_UNNAMED = 1_000_000
"""Every label up to the largest is a class: one that is mistaken may mean millions."""


@runtime_checkable
class Storage(Protocol):
    """Encoded images and their labels.

    Attributes:
        classes: Name of each label.
        labels: Class of each image.
        names: Name of each image within the storage.
    """

    classes: tuple[str, ...]
    labels: Int64[Tensor, " N"]
    names: NameTable

    def name(self, index: int) -> str:
        """Say which image this is and where, for people."""

    def read(self, index: int) -> bytes:
        """Return the file of an image as it was stored.

        Raises:
            ImageDecodeError: If it cannot be read.
        """


class FileStorage:
    """Images that are files of their own.

    Args:
        folder: What the names are relative to; absolute names are taken as they are.
        names: File of each image.
        labels: Class of each image.
        classes: Name of each label.
    """

    def __init__(
        self,
        folder: Path,
        names: NameTable,
        labels: Int64[Tensor, " N"],
        classes: tuple[str, ...],
    ) -> None:
        self.folder = folder
        self.names = names
        self.labels = labels
        self.classes = classes

    def name(self, index: int) -> str:
        """Path of an image."""
        return os.path.join(self.folder, os.fsdecode(self.names[index]))

    def read(self, index: int) -> bytes:
        """Return the file of an image."""
        return read_file(Path(self.name(index)))


def match_classes(
    where: object,
    labels: Int64[Tensor, " N"],
    own: Sequence[str] | None,
    wanted: Sequence[str] | None,
) -> tuple[Int64[Tensor, " N"], tuple[str, ...]]:
    """Turn the labels of a storage into those that a run or a model counts in.

    Args:
        where: The storage, for messages.
        labels: Labels as they are stored, none below zero.
        own: Names of the stored labels, where the storage has some.
        wanted: Classes in the order of the labels to return; None keeps the stored order.

    Returns:
        The labels, and the name of each class.

    Raises:
        ZigguratError: If a label has no name or is too large for a class without one, or a class is
            none of those wanted.
    """
    largest = int(labels.max())
    if not (own or wanted) and largest >= _MOST_UNNAMED:
        raise ZigguratError(
            f"{where} has the label {largest}, but there may be {_MOST_UNNAMED} classes without a "
            f"name, 0 to {_MOST_UNNAMED - 1}; correct the label, or name the classes in classes.txt"
        )
    names = tuple(own or wanted or (f"class_{label}" for label in range(largest + 1)))
    if largest >= len(names):
        raise ZigguratError(
            f"{where} has the label {largest}, but there are {len(names)} classes, 0 to "
            f"{len(names) - 1}; correct the label or name its class"
        )
    if own is None or wanted is None or tuple(own) == tuple(wanted):
        return labels, tuple(wanted or names)
    twice = next((name for name in own if own.count(name) + wanted.count(name) > 2), None)
    if twice is not None:
        raise ZigguratError(
            f"the classes of {where} cannot be told apart by name: {twice!r} comes twice; give "
            "every class a name of its own"
        )
    present = sorted({own[label] for label in labels.unique().tolist()})
    known = {name: label for label, name in enumerate(wanted)}
    for name in present:
        if name not in known:
            hint = did_you_mean(name, wanted, "evaluate on data of the same classes")
            raise ZigguratError(
                f"{where} has images of the class {name!r}, none of the {len(wanted)} known "
                f"classes; {hint}"
            )
    table = torch.tensor([known.get(name, -1) for name in own])
    return table[labels], tuple(wanted)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read a file with one class name a line.

    Args:
        path: The file.

    Raises:
        ZigguratError: If it cannot be read, or has an empty line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ZigguratError(
            f"cannot read the class names in {path} ({error}); give a text file with one name a "
            "line"
        ) from error
    return parse_class_names(data, path)


def parse_class_names(data: bytes, where: object) -> tuple[str, ...]:
    """Take a file with one class name a line apart.

    Args:
        data: The file.
        where: Its place, for messages.

    Raises:
        ZigguratError: If it is no text, or has an empty line.
    """
    try:
        names = tuple(line.strip() for line in data.decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise ZigguratError(
            f"cannot read the class names in {where} ({error}); give a text file with one name a "
            "line"
        ) from error
    if not names or not all(names):
        raise ZigguratError(f"{where} has an empty line or no names; give one class name a line")
    return names
