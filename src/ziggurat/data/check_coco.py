"""Check a data set in COCO's layout: annotations/instances_<split>.json and <split>/*.jpg.

Keypoints may be in annotations/person_keypoints_<split>.json, too; tools export
<split>/_annotations.coco.json. Files and folders in any place can be named.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ziggurat.data.check_coco_split import SplitCheck, by_id, check_split, relative
from ziggurat.data.coco import EXPORTED_FILE, PREFIXES, annotation_files, find_coco
from ziggurat.data.findings import (
    TRAIN_SPLITS,
    DatasetCheck,
    Example,
    Finding,
    Progress,
    SplitCount,
    in_order,
    some,
)
from ziggurat.errors import ZigguratError
from ziggurat.keypoints import Skeleton
from ziggurat.ops.skeletons import read_sigmas, read_skeleton


def _trained_first(root: Path) -> list[Path]:
    return sorted(annotation_files(root), key=lambda path: _split_name(path) not in TRAIN_SPLITS)


def _split_name(path: Path) -> str:
    if path.name == EXPORTED_FILE:
        return path.parent.name
    return path.stem.removeprefix(_prefix(path))


def _prefix(path: Path) -> str:
    return next((prefix for prefix in PREFIXES if path.name.startswith(prefix)), PREFIXES[0])


def check_coco(root: Path, on_progress: Progress | None = None) -> DatasetCheck:
    """Look at every annotation file and every image that it names.

    Args:
        root: Folder of the data set.
        on_progress: Called as files are looked at.
    """
    check = _Check(root, on_progress)
    files = _trained_first(root)
    for path in files:
        name = _split_name(path)
        split = SplitCheck(root, relative(path, root), name, name in TRAIN_SPLITS)
        # Of two files of a split the images are looked at with the first.
        if path.with_name(f"{PREFIXES[0]}{name}.json") in files[: files.index(path)]:
            check.add(split, path, None, kind=_prefix(path), note=", keypoints")
        else:
            check.add(split, path, partial(_folder, split), kind=_prefix(path))
    return check.result()


def check_annotations(
    root: Path, places: Sequence[tuple[Path, Path]], on_progress: Progress | None = None
) -> DatasetCheck:
    """Look at annotation files in any place, and at every image that they name.

    Args:
        root: Folder that findings name files relative to, where they are below it.
        places: Annotation file and folder of its images, of each split; the first is trained on,
            and the others must have its classes.
        on_progress: Called as files are looked at.
    """
    check = _Check(root, on_progress)
    stems = [path.stem for path, _ in places]
    folders = [folder for _, folder in places]
    for place, (path, folder) in enumerate(places):
        file = relative(path, root)
        name = path.stem if stems.count(path.stem) == 1 else file
        split = SplitCheck(root, file, name, is_training=place == 0)
        find_folder = partial(_existing, split, folder)
        check.add(split, path, find_folder, is_shared=folders.count(folder) > 1)
    return check.result()


class _Check:
    """Goes through annotation files, the one that is trained on first."""

    def __init__(self, root: Path, on_progress: Progress | None) -> None:
        self.root = root
        self.on_progress = on_progress
        self.counts: list[SplitCount] = []
        self.findings: list[Finding] = []
        self.examples: list[Example] = []
        self.trained: dict[str, dict[int, str]] = {}

    def add(
        self,
        split: SplitCheck,
        path: Path,
        find_folder: Callable[[], Path | None] | None,
        *,
        kind: str = "",
        note: str = "",
        is_shared: bool = False,
    ) -> None:
        """Look at one file and its images; those of one kind must have the same classes."""
        tables = _read(split, path)
        if tables is not None:
            classes = _classes(split, tables["categories"])
            if kind in self.trained:
                _compare(split, classes, self.trained[kind])
            elif split.is_training:
                self.trained[kind] = classes
            count, shown = check_split(
                split,
                tables,
                classes,
                None if find_folder is None else find_folder(),
                self.on_progress,
                is_shared=is_shared,
                skeleton=_skeleton(split, tables),
            )
            self.counts.append(replace(count, name=f"{count.name}{note}"))
            self.examples += shown
        self.findings += split.findings

    def result(self) -> DatasetCheck:
        """Return what was found."""
        findings = in_order(self.findings)
        return DatasetCheck(self.root, "coco", tuple(self.counts), findings, tuple(self.examples))


def _read(split: SplitCheck, path: Path) -> dict[str, list[object]] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        split.add(f"cannot be read as JSON: {error}")
        return None
    tables: dict[str, list[object]] = {}
    for key in ("images", "annotations", "categories"):
        table = content.get(key) if isinstance(content, dict) else None
        if not isinstance(table, list):
            split.add(f"no COCO annotation file: {key!r} is missing or no list")
            return None
        if not table and key != "annotations":
            split.add(f"zero {key}: nothing can be learned or measured")
        tables[key] = table
    return tables


def _classes(split: SplitCheck, entries: list[object]) -> dict[int, str]:
    classes: dict[int, str] = {}
    for number, entry in sorted(by_id(split, "categories", entries).items()):
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            split.add(f"category id {number} has no name")
        elif name in classes.values():
            split.add(f"two categories have the name {name!r}")
        classes[number] = str(name)
    return classes


def _skeleton(split: SplitCheck, tables: Mapping[str, Sequence[object]]) -> Skeleton | None:
    """Read what the keypoints are; None where there are none or that is wrong."""
    categories = [entry for entry in tables["categories"] if isinstance(entry, dict)]
    labelled = [
        entry["keypoints"]
        for entry in tables["annotations"]
        if isinstance(entry, dict) and entry.get("keypoints")
    ]
    if not labelled and not any(entry.get("keypoints") for entry in categories):
        return None
    num_values = len(labelled[0]) if labelled and isinstance(labelled[0], list) else None
    try:
        skeleton = read_skeleton(categories, num_values)
        read_sigmas(categories, skeleton)
    except ValueError as error:
        split.add(str(error))
        return None
    return skeleton


def _compare(split: SplitCheck, classes: dict[int, str], trained: dict[int, str]) -> None:
    for number, name in classes.items():
        if number not in trained:
            split.add(f"category {number} ({name!r}) is unknown in the training split")
        elif trained[number] != name:
            split.add(
                f"category {number} is {name!r}, but {trained[number]!r} in the training split"
            )
    missing = [name for number, name in trained.items() if number not in classes]
    if missing:
        split.add(f"categories of the training split are missing: {some(missing)}")


def _folder(split: SplitCheck) -> Path | None:
    try:
        return find_coco(split.root, split.name)[1]
    except ZigguratError as error:
        split.add(str(error))
        return None


def _existing(split: SplitCheck, folder: Path) -> Path | None:
    if folder.is_dir():
        return folder
    split.add(f"the folder of its images, {folder}, does not exist")
    return None
