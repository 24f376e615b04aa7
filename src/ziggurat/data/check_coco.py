"""Check a data set in COCO's layout: annotations/instances_<split>.json and <split>/*.jpg.

Keypoints may be in annotations/person_keypoints_<split>.json, too; tools export
<split>/_annotations.coco.json. Unlike the reader for training,
which stops at the first defect, this goes through to the end and names them all.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ziggurat.data.check_coco_objects import Entry, check_object, read_object
from ziggurat.data.coco import EXPORTED_FILE, PREFIXES, annotation_files, find_coco
from ziggurat.data.coco_file import SOURCE, image_size
from ziggurat.data.decode import ImageDecodeError, is_image_file
from ziggurat.data.findings import (
    TRAIN_SPLITS,
    DatasetCheck,
    Example,
    ExampleObject,
    Finding,
    Progress,
    SplitCount,
    decode_sizes,
    evenly,
    in_order,
    plural,
    some,
)
from ziggurat.errors import ZigguratError
from ziggurat.keypoints import Skeleton
from ziggurat.ops.skeletons import read_sigmas, read_skeleton
from ziggurat.types import ImageSize

_NUM_EXAMPLES = 12


def _trained_first(root: Path) -> list[Path]:
    return sorted(annotation_files(root), key=lambda path: _split_name(path) not in TRAIN_SPLITS)


def _split_name(path: Path) -> str:
    if path.name == EXPORTED_FILE:
        return path.parent.name
    return path.stem.removeprefix(_prefix(path))


def _prefix(path: Path) -> str:
    return next((prefix for prefix in PREFIXES if path.name.startswith(prefix)), PREFIXES[0])


@dataclass
class SplitCheck:
    """One split while it is checked.

    Attributes:
        root: Folder of the data set.
        file: Annotation file or folder that findings are about, relative to the root.
        name: Name of the split.
        findings: What was found so far.
    """

    root: Path
    file: str
    name: str
    findings: list[Finding] = field(default_factory=list)

    def add(self, reason: str, *, file: str | None = None, is_note: bool = False) -> None:
        """Note a fault, or what is worth knowing.

        Args:
            reason: What is the matter.
            file: What it is about, where that is not the annotation file.
            is_note: Whether it is no fault.
        """
        self.findings.append(Finding(file or self.file, reason, "note" if is_note else "fault"))

    def report(self, file: str, reason: str) -> None:
        """Note a fault of a file; what a reader is given to tell of faults."""
        self.add(reason, file=file)


def check_coco(root: Path, on_progress: Progress | None = None) -> DatasetCheck:
    """Look at every annotation file and every image that it names."""
    counts: list[SplitCount] = []
    findings: list[Finding] = []
    examples: list[Example] = []
    trained: dict[str, dict[int, str]] = {}
    files = _trained_first(root)
    for path in files:
        split = SplitCheck(root, path.relative_to(root).as_posix(), _split_name(path))
        tables = _read(split, path)
        if tables is not None:
            classes = _classes(split, tables["categories"])
            if _prefix(path) in trained:
                _compare(split, classes, trained[_prefix(path)])
            elif split.name in TRAIN_SPLITS:
                trained[_prefix(path)] = classes
            # Of two files of a split the images are looked at with the first.
            is_second = (
                path.with_name(f"{PREFIXES[0]}{split.name}.json") in files[: files.index(path)]
            )
            folder = None if is_second else _folder(split)
            count, shown = check_split(
                split, tables, classes, folder, on_progress, skeleton=_skeleton(split, tables)
            )
            counts.append(replace(count, name=f"{count.name}, keypoints") if is_second else count)
            examples += shown
        findings += split.findings
    return DatasetCheck(root, "coco", tuple(counts), in_order(findings), tuple(examples))


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


def _by_id(split: SplitCheck, table: str, entries: Sequence[object]) -> dict[int, Entry]:
    found: dict[int, Entry] = {}
    for position, entry in enumerate(entries):
        number = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or type(number) is not int:
            split.add(f"entry {position} of {table} has no integer 'id' (got {number!r})")
        elif number in found:
            split.add(f"duplicate id: {table} has the id {number} twice")
        else:
            found[number] = entry
    return found


def _classes(split: SplitCheck, entries: list[object]) -> dict[int, str]:
    classes: dict[int, str] = {}
    for number, entry in sorted(_by_id(split, "categories", entries).items()):
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


def check_split(
    split: SplitCheck,
    tables: Mapping[str, Sequence[object]],
    classes: Mapping[int, str],
    folder: Path | None,
    on_progress: Progress | None,
    *,
    is_shared: bool = False,
    skeleton: Skeleton | None = None,
    is_part: bool = False,
) -> tuple[SplitCount, list[Example]]:
    """Look at all entries and images of a split.

    Args:
        split: Takes the findings.
        tables: Images and annotations, as COCO lays them out.
        classes: Name of each category id.
        folder: Where the images lie; None where that is not known.
        on_progress: Called as files are looked at.
        is_shared: Whether images of other splits lie in the folder too.
        skeleton: What the keypoints of the objects are; None where there are none.
        is_part: Whether the classes are those of a published data set, of which a part need not
            have all.

    Returns:
        What the split holds, and some of its images.
    """
    images = _by_id(split, "images", tables["images"])
    sizes = {number: _size(split, number, entry) for number, entry in images.items()}
    objects = _check_objects(split, tables["annotations"], images, sizes, classes, skeleton)
    _empty_classes(split, tables["categories"], objects.per_class, is_part=is_part)
    bare = [
        str(entry.get("file_name"))
        for number, entry in images.items()
        if number not in objects.annotated
    ]
    num_without_area = sum(
        isinstance(entry, dict) and "area" not in entry for entry in tables["annotations"]
    )
    if num_without_area:
        split.add(
            f"{plural(num_without_area, 'annotation')} without 'area': that of the mask or the box "
            "counts; other tools need it",
            is_note=True,
        )
    if bare:
        split.add(f"{plural(len(bare), 'image')} without annotations: {some(bare)}", is_note=True)
    paths: dict[int, Path] = {}
    if folder is not None:
        named = _name_files(split, images, folder)
        paths = _check_files(split, images, sizes, named, on_progress)
        if not is_shared:
            _find_strangers(split, folder, set(named.values()))
    good = [number for number in paths if number not in objects.faulty]
    names = tuple(classes.values())
    examples = []
    for index in evenly(len(good), _NUM_EXAMPLES):
        number = good[index]
        caption = f"{split.name}: {paths[number].name}"
        found = tuple(objects.of_image[number])
        examples.append(Example(paths[number], caption, names, found, skeleton=skeleton))
    return SplitCount(split.name, len(images), "objects", objects.per_class), examples


@dataclass
class _Objects:
    """What the annotations of a split hold.

    Attributes:
        of_image: The faultless objects of each image.
        per_class: Number of objects of each class.
        annotated: Images that any annotation names.
        faulty: Images with an annotation that is wrong.
    """

    of_image: dict[int, list[ExampleObject]]
    per_class: dict[str, int]
    annotated: set[int] = field(default_factory=set)
    faulty: set[int] = field(default_factory=set)


def _check_objects(
    split: SplitCheck,
    entries: Sequence[object],
    images: Mapping[int, Entry],
    sizes: Mapping[int, ImageSize | None],
    classes: Mapping[int, str],
    skeleton: Skeleton | None,
) -> _Objects:
    found = _Objects({number: [] for number in images}, dict.fromkeys(classes.values(), 0))
    labels = {number: label for label, number in enumerate(classes)}
    for number, entry in _by_id(split, "annotations", entries).items():
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        source = entry.get(SOURCE)
        file, place = source if isinstance(source, tuple) else (split.file, f"annotation {number}")
        if not (type(image_id) is int and image_id in images):
            split.add(f"{place}: unknown image id {image_id!r}", file=file)
            continue
        if source is None:
            place = f"{place} (image {images[image_id].get('file_name')})"
        found.annotated.add(image_id)
        size = sizes[image_id]
        reasons = check_object(entry, size, skeleton)
        if not (type(category_id) is int and category_id in classes):
            reasons.append(f"unknown category id {category_id!r}")
        else:
            found.per_class[classes[category_id]] += 1
            if not reasons and size is not None:
                label = labels[category_id]
                found.of_image[image_id].append(read_object(entry, label, size, skeleton))
        if reasons:
            found.faulty.add(image_id)
        for reason in reasons:
            split.add(f"{place}: {reason}", file=file)
    return found


def _size(split: SplitCheck, number: int, entry: Entry) -> ImageSize | None:
    size = image_size(entry)
    if size is None:
        split.add(
            f"image {number} has the width {entry.get('width')!r} and the height "
            f"{entry.get('height')!r}; expected whole pixels, at least 1"
        )
    return size


def _empty_classes(
    split: SplitCheck, categories: Sequence[object], per_class: dict[str, int], *, is_part: bool
) -> None:
    # Tools export the group that classes belong to as a class of its own, which has no objects.
    groups = {
        entry.get("supercategory")
        for entry in categories
        if isinstance(entry, dict) and entry.get("supercategory") != entry.get("name")
    }
    for name, count in per_class.items():
        if count == 0:
            is_note = is_part or split.name not in TRAIN_SPLITS or name in groups
            split.add(f"class {name!r} is empty: no annotation has it", is_note=is_note)


def _name_files(split: SplitCheck, images: Mapping[int, Entry], folder: Path) -> dict[int, Path]:
    paths: dict[int, Path] = {}
    by_name: dict[str, int] = {}
    for number, entry in images.items():
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            split.add(f"image {number} has no file_name")
        elif name in by_name:
            split.add(f"images {by_name[name]} and {number} have the same file {name}")
        else:
            by_name[name] = number
            paths[number] = folder / name
    return paths


def _check_files(
    split: SplitCheck,
    images: Mapping[int, Entry],
    sizes: Mapping[int, ImageSize | None],
    paths: Mapping[int, Path],
    on_progress: Progress | None,
) -> dict[int, Path]:
    """Decode the images; returns the files of those that are as they should be."""
    good: dict[int, Path] = {}
    results = decode_sizes(list(paths.values()), on_progress)
    for (number, path), result in zip(paths.items(), results, strict=True):
        name = _relative(path, split.root)
        expected = sizes[number]
        if isinstance(result, ImageDecodeError):
            split.add(result.reason, file=name)
        elif expected is not None and result != expected:
            turned = "; it may be turned by its EXIF data" if result == expected[::-1] else ""
            split.add(
                f"its size {result[0]} x {result[1]} (height x width) differs from {expected[0]} "
                f"x {expected[1]} in {images[number].get(SOURCE, split.file)}{turned}",
                file=name,
            )
        else:
            good[number] = path
    return good


def _find_strangers(split: SplitCheck, folder: Path, known: set[Path]) -> None:
    on_disk = {path for path in folder.rglob("*") if is_image_file(path)}
    strangers = sorted(path.relative_to(folder).as_posix() for path in on_disk - known)
    if strangers:
        reason = f"{plural(len(strangers), 'image')} not named in {split.file}: {some(strangers)}"
        split.add(reason, file=_relative(folder, split.root), is_note=True)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
