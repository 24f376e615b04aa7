"""List files: one image a line, its path and its label, as PaddleViT and Caffe have them."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from ziggurat.data.names import NameTable
from ziggurat.data.storage import FileStorage, match_classes, read_class_names
from ziggurat.errors import ZigguratError

CLASS_NAMES = "classes.txt"
"""File with the class names of lists and shards, one a line; without it labels are numbers."""

_MAX_DIGITS = 18
"""A number of so many digits fits into 64 bits."""


def find_list(root: Path, split: str) -> Path | None:
    """Return the list of a split, or None where there is none.

    Args:
        root: Folder of the data set.
        split: Name of the split.
    """
    candidates = (f"{split}_list.txt", f"{split}.txt", f"meta/{split}.txt")
    return next((root / name for name in candidates if (root / name).is_file()), None)


def find_class_names(root: Path) -> tuple[str, ...] | None:
    """Read the class names of a data set where it has some.

    Args:
        root: Folder of the data set.
    """
    path = root / CLASS_NAMES
    return read_class_names(path) if path.is_file() else None


def read_list(path: Path, num_classes: int | None) -> tuple[NameTable, Int64[Tensor, " N"]]:
    """Read paths and labels.

    A path may have spaces; the label is what follows the last of them.

    Args:
        path: The list.
        num_classes: Labels are below this; None allows any.

    Raises:
        ZigguratError: If the file cannot be read, is empty, or a line is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise ZigguratError(f"cannot read the list {path}: {error.strerror}") from error
    names, labels = [], []
    for number, line in enumerate(lines, start=1):
        words = line.rsplit(maxsplit=1)
        if not words:
            continue
        # isdecimal() alone takes digits of other scripts too.
        if len(words) != 2 or not (words[1].isascii() and words[1].isdecimal()):
            raise ZigguratError(
                f"{path} line {number}: expected a path and a label from 0, as "
                f"'train/cat/1.jpg 0', got {line.strip()[:80]!r}; correct the line"
            )
        if len(words[1]) > _MAX_DIGITS:
            raise ZigguratError(
                f"{path} line {number}: the label {words[1][:_MAX_DIGITS]}... has "
                f"{len(words[1])} digits, expected at most {_MAX_DIGITS}; correct the label"
            )
        if num_classes is not None and int(words[1]) >= num_classes:
            raise ZigguratError(
                f"{path} line {number}: the label {words[1]} is out of range, there are "
                f"{num_classes} classes, 0 to {num_classes - 1}; correct the label or name its "
                "class"
            )
        names.append(os.fsencode(words[0].lstrip()))
        labels.append(int(words[1]))
    if not names:
        raise ZigguratError(f"the list {path} is empty; give one image a line, as 'cat/1.jpg 0'")
    return NameTable.of(names), torch.tensor(labels)


def open_list(
    root: Path, split: str, path: Path, classes: Sequence[str] | None = None
) -> FileStorage:
    """Open the images of a list.

    Paths are absolute, or relative to the data set's folder or to the split's folder in it,
    whichever has the first of them.

    Args:
        root: Folder of the data set.
        split: Name of the split.
        path: The list.
        classes: Classes in the order of their labels; by default those of `classes.txt`, or
            numbers.

    Raises:
        ZigguratError: If the list is wrong, or its first image is nowhere.
    """
    own = find_class_names(root)
    counted = own or classes
    names, labels = read_list(path, None if counted is None else len(counted))
    labels, known = match_classes(path, labels, own, classes)
    first = os.fsdecode(names[0])
    folders = (root, root / split)
    folder = next((folder for folder in folders if (folder / first).is_file()), None)
    if folder is None:
        raise ZigguratError(
            f"the first image of {path}, {first!r}, is neither in {folders[0]} nor in "
            f"{folders[1]}; give paths that are absolute or relative to one of them"
        )
    return FileStorage(folder, names, labels, known)
