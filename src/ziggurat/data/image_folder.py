"""Classification data in the layout of ImageNet: root/<split>/<class>/<any depth>/*.jpg."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import torch

from ziggurat.data.decode import is_image_name
from ziggurat.data.names import NameTable
from ziggurat.data.splits import names_of
from ziggurat.data.storage import FileStorage
from ziggurat.errors import ZigguratError


def open_image_folder(root: Path, split: str, classes: Sequence[str] | None = None) -> FileStorage:
    """List images whose folder is their class.

    Classes and files are in sorted order, so that a label means the same on every machine.
    Files that are no images by name are left aside.

    Nothing is cached, so that nothing can be out of date: names and kinds come from the folders
    alone, no file is looked at, and ImageNet takes seconds.

    Args:
        root: Folder of the splits.
        split: Name of the split's folder.
        classes: Classes in the order of their labels; by default the folders of the split. An
            evaluation split must be given those of the training split.

    Raises:
        ZigguratError: If a folder is missing, has no images, or is no class.
    """
    folder = _split_folder(root, split)
    found = class_folders(folder)
    if not found:
        raise ZigguratError(f"{folder} has no class folders; expected {folder}/<class>/<image>.jpg")
    known = tuple(found if classes is None else classes)
    _check_known(folder, found, known)
    label_of = {name: label for label, name in enumerate(known)}
    files: list[bytes] = []
    labels: list[int] = []
    for name in found:
        images = _images_below(folder, name)
        if not images and classes is None:
            raise ZigguratError(
                f"class folder {folder / name} has no images; add some or remove the folder"
            )
        files += (os.fsencode(path) for path in sorted(images))
        labels += [label_of[name]] * len(images)
    if not files:
        raise ZigguratError(f"{folder} has class folders but no images in them")
    return FileStorage(folder, NameTable.of(files), torch.tensor(labels), known)


def class_folders(folder: Path) -> list[str]:
    """Name the folders in a folder that may be classes, in sorted order.

    Args:
        folder: Where to look; may be absent.
    """
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _split_folder(root: Path, split: str) -> Path:
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ZigguratError(
            f"data folder {root} {what}; expected a folder with {split}/<class>/<image>.jpg"
        )
    for name in names_of(split):
        if (root / name).is_dir():
            return root / name
    present = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    raise ZigguratError(
        f"{root} has no split folder {split!r}; its folders are "
        f"{', '.join(present[:10]) or 'none'}, and {split}/<class>/<image>.jpg is expected; "
        "another folder is named with --data.train_split or --data.val_split"
    )


def _check_known(folder: Path, found: Sequence[str], classes: Sequence[str]) -> None:
    known = set(classes)
    unknown = [name for name in found if name not in known]
    if unknown:
        near = get_close_matches(unknown[0], classes, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ZigguratError(
            f"class folder {folder / unknown[0]} is none of the {len(classes)} known "
            f"classes{hint}; rename or remove it ({len(unknown)} such in all)"
        )


def _images_below(folder: Path, name: str) -> list[str]:
    """List the files of a class at any depth, relative to the split's folder.

    Raises:
        ZigguratError: If a folder cannot be listed.
    """
    found, pending = [], [name]
    while pending:
        inner = pending.pop()
        try:
            with os.scandir(folder / inner) as entries:
                for entry in entries:
                    path = f"{inner}/{entry.name}"
                    # Says a folder without looking at the file, on all but few file systems.
                    if entry.is_dir():
                        pending.append(path)
                    elif is_image_name(entry.name):
                        found.append(path)
        except OSError as error:
            raise ZigguratError(
                f"cannot list the folder {folder / inner}: {error.strerror}; make it readable"
            ) from error
    return found
