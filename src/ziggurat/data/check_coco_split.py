"""Check a split of detection data that is laid out as COCO lays it out: entries, then images.

Unlike the reader for training, which stops at the first defect, this names them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ziggurat.data.check_coco_objects import Entry, check_object, read_object
from ziggurat.data.coco_file import SOURCE, image_size
from ziggurat.data.decode import ImageDecodeError, is_image_file
from ziggurat.data.findings import (
    Example,
    ExampleObject,
    Finding,
    Progress,
    SplitCount,
    decode_sizes,
    evenly,
    plural,
    some,
)
from ziggurat.keypoints import Skeleton
from ziggurat.ops.image_names import with_file_name
from ziggurat.types import ImageSize

_NUM_EXAMPLES = 12


@dataclass
class SplitCheck:
    """One split while it is checked.

    Attributes:
        root: Folder of the data set.
        file: Annotation file or folder that findings are about, relative to the root.
        name: Name of the split.
        is_training: Whether it is trained on, so that a class without objects is a fault.
        findings: What was found so far.
    """

    root: Path
    file: str
    name: str
    is_training: bool
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


def by_id(split: SplitCheck, table: str, entries: Sequence[object]) -> dict[int, Entry]:
    """Return the entries of a table by their ids, and note those whose id is wrong.

    Args:
        split: Takes the findings.
        table: Name of the table.
        entries: What it holds.
    """
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
    entries = by_id(split, "images", tables["images"])
    images = {number: with_file_name(entry) for number, entry in entries.items()}
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
    num_without_mask, num_objects = _without_mask(tables["annotations"])
    if 0 < num_without_mask < num_objects:
        split.add(
            f"{num_without_mask} of {plural(num_objects, 'object')} without a mask in "
            "'segmentation': instance segmentation needs one for each",
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
    for number, entry in by_id(split, "annotations", entries).items():
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


def _without_mask(entries: Sequence[object]) -> tuple[int, int]:
    """Count objects that must be found and have no mask, and all that must be found."""
    objects = [entry for entry in entries if isinstance(entry, dict)]
    wanted = [entry for entry in objects if not (entry.get("iscrowd") or entry.get("difficult"))]
    return sum(not entry.get("segmentation") for entry in wanted), len(wanted)


def _size(split: SplitCheck, number: int, entry: Entry) -> ImageSize | None:
    size = image_size(entry)
    if size is None:
        split.add(
            f"image {number} has the width {entry.get('width')!r} and the height "
            f"{entry.get('height')!r}; expected whole pixels, at least 1 and below 100 million"
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
            is_note = is_part or not split.is_training or name in groups
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
        name = relative(path, split.root)
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
        split.add(reason, file=relative(folder, split.root), is_note=True)


def relative(path: Path, root: Path) -> str:
    """Name a file as findings do: relative to the data set, where it is in it.

    Args:
        path: The file.
        root: Folder of the data set.
    """
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
