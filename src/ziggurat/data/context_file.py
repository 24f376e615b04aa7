"""Read Pascal Context as it is published: regions of Pascal VOC 2010's photos in one JSON file.

    images               image_id, file_name, height, width, phase: "train", "val" or "test"
    annos_segmentation   id, image_id, category_id, segmentation: run lengths as COCO writes them

A pixel belongs to the last region that covers it, in the order of the file; without one, or where
that has the category 0, it is background. The data set has 459 categories, of which 59 are classes
of the benchmark, by rising number behind the background; MMSegmentation, which converts the
published file, refuses a pixel of any other. Images of other phases have no published labels.

Read by the program that was published with the file (Detail API), by MMSegmentation, which converts
it with that, and by two programs that read it without; not tried on the published file.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ziggurat.data.coco_file import image_size, read_json
from ziggurat.data.downloaded_labels import CONTEXT_FILE
from ziggurat.data.label_layouts import CONTEXT_LABELS, CONTEXT_LISTS
from ziggurat.data.photo_labels import DownloadedLabels, PhotoLabels
from ziggurat.data.segments import Segment, SegmentTable, read_segment
from ziggurat.errors import ZigguratError
from ziggurat.types import ImageSize

CATEGORIES = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98),
    *(104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295),
    *(296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440),
    *(445, 454, 458),
)
"""Number that the file has for each class but the background, from class 1 on."""
_LABEL_OF = {0: 0, **{category: label for label, category in enumerate(CATEGORIES, start=1)}}
_SPLITS = ("train", "val")
"""Phases of the images that have labels; the splits are called so, too."""


def read_context(root: Path) -> DownloadedLabels:
    """Read the file; label files are made one after the other by whoever needs them.

    The regions stay in memory as the file has them, compressed.

    Args:
        root: Folder with the file, and with JPEGImages of Pascal VOC 2010.

    Raises:
        ZigguratError: If it cannot be read, or has not what it should.
    """
    path = root / CONTEXT_FILE
    photos, regions = _read_file(path)
    split_of: dict[str, str] = {}
    found = []
    for image_id, photo in photos.items():
        if photo.name in split_of:
            raise ZigguratError(
                f"{path}: two entries of images, of {split_of[photo.name]} and {photo.phase}, have "
                f"the file_name '{photo.name}.jpg'; an image belongs to one split, and once"
            )
        split_of[photo.name] = photo.phase
        if photo.phase in _SPLITS:
            found.append(
                PhotoLabels(
                    photo.phase,
                    root / "JPEGImages" / f"{photo.name}.jpg",
                    f"JPEGImages/{photo.name}.jpg",
                    f"{CONTEXT_LABELS}/{photo.name}.png",
                    f"{CONTEXT_FILE}, image_id {image_id}",
                    partial(_paint, path, photo, regions.get(image_id, [])),
                )
            )
    if not found:
        raise ZigguratError(f"{path} has no image of the phase train or val")
    names = {
        split: sorted(n for n, phase in split_of.items() if phase == split) for split in _SPLITS
    }
    left_out = Counter(photo.phase for photo in photos.values() if photo.phase not in _SPLITS)
    return DownloadedLabels(
        "pascal_context",
        found,
        {
            f"ImageSets/{CONTEXT_LISTS}/{split}.txt": "".join(f"{name}\n" for name in listed)
            for split, listed in names.items()
            if listed
        },
        {f"image of the phase {phase!r}": count for phase, count in sorted(left_out.items())},
    )


@dataclass(frozen=True)
class _Photo:
    """An entry of "images".

    Attributes:
        name: Its file without the suffix.
        size: Height and width.
        phase: What the file says about its split.
    """

    name: str
    size: ImageSize
    phase: str


@dataclass(frozen=True, slots=True)
class _Region:
    """An entry of "annos_segmentation".

    Attributes:
        number: Its id.
        category: What is there.
        segmentation: Its pixels, as the file has them.
    """

    number: int
    category: int
    segmentation: object


def _read_file(path: Path) -> tuple[dict[int, _Photo], Mapping[int, Sequence[_Region]]]:
    """Read photos and regions by the id of the image.

    Raises:
        ZigguratError: If an id is there twice, or a region has an image that is not there.
    """
    content = read_json(path)
    photos: dict[int, _Photo] = {}
    for position, entry in enumerate(_table(path, content, "images")):
        where = f"{path}: entry {position} of images"
        image_id = _number(where, entry, "image_id")
        if image_id in photos:
            raise ZigguratError(f"{where} has the image_id {image_id}, as one before it has")
        photos[image_id] = _photo(where, entry)
    regions: defaultdict[int, list[_Region]] = defaultdict(list)
    numbers: set[int] = set()
    for position, entry in enumerate(_table(path, content, "annos_segmentation")):
        where = f"{path}: entry {position} of annos_segmentation"
        number = _number(where, entry, "id")
        if number in numbers:
            raise ZigguratError(f"{where} has the id {number}, as one before it has")
        numbers.add(number)
        image_id = _number(where, entry, "image_id")
        if image_id not in photos:
            raise ZigguratError(
                f"{path}: annotation id {number} has the image_id {image_id}, which no entry of "
                "images has"
            )
        category = _number(where, entry, "category_id")
        segmentation = entry.get("segmentation") if isinstance(entry, dict) else None
        regions[image_id].append(_Region(number, category, segmentation))
    return photos, regions


def _table(path: Path, content: object, key: str) -> list[object]:
    table = content.get(key) if isinstance(content, dict) else None
    if not isinstance(table, list):
        raise ZigguratError(
            f"{path} is no file of Pascal Context: expected an object with the lists images and "
            f"annos_segmentation, and {key!r} is missing or no list"
        )
    return table


def _number(where: str, entry: object, key: str) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if type(value) is not int:
        raise ZigguratError(f"{where} has the {key} {value!r}; expected a whole number")
    return value


def _photo(where: str, entry: object) -> _Photo:
    """Read an entry of "images".

    Raises:
        ZigguratError: If it is none.
    """
    values = entry if isinstance(entry, dict) else {}
    name, phase, size = values.get("file_name"), values.get("phase"), image_size(values)
    if not isinstance(name, str) or Path(name).name != name or not name.endswith(".jpg"):
        raise ZigguratError(
            f"{where} has the file_name {name!r}; expected a photo of JPEGImages, as "
            "2008_000002.jpg"
        )
    if not isinstance(phase, str):
        raise ZigguratError(
            f"{where} ({name}) has the phase {phase!r}; expected train, val or test"
        )
    if size is None:
        raise ZigguratError(
            f"{where} ({name}) has the height {values.get('height')!r} and the width "
            f"{values.get('width')!r}; expected whole pixels"
        )
    return _Photo(name.removesuffix(".jpg"), size, phase)


def _paint(path: Path, photo: _Photo, regions: Sequence[_Region]) -> UInt8[np.ndarray, "H W"]:
    """Make the label of each pixel.

    Args:
        path: The file, for messages.
        photo: What is painted on.
        regions: Its regions; the last is on top.

    Raises:
        ZigguratError: If a region is none, or one that can be seen is of no class.
    """
    segments = [_segment(path, photo, region) for region in regions]
    masks = SegmentTable.of(segments).masks(0, len(segments), photo.size)
    owner = np.zeros(photo.size, dtype=np.int32)
    windows = masks.windows.tolist()
    for place, (crop, window) in enumerate(zip(masks.crops(), windows, strict=True), start=1):
        left, top, width, height = window
        owner[top : top + height, left : left + width][crop.numpy()] = place
    label_of = np.zeros(len(regions) + 1, dtype=np.uint8)
    for place in np.unique(owner[owner > 0]).tolist():
        region = regions[place - 1]
        if region.category not in _LABEL_OF:
            raise ZigguratError(
                f"{path}: annotation id {region.number} ({photo.name}.jpg) has the category_id "
                f"{region.category}; expected one of the {len(CATEGORIES)} categories that the "
                "benchmark counts, or 0"
            )
        label_of[place] = _LABEL_OF[region.category]
    return label_of[owner]


def _segment(path: Path, photo: _Photo, region: _Region) -> Segment:
    try:
        return read_segment(region.segmentation, photo.size)
    except ValueError as error:
        raise ZigguratError(
            f"{path}: annotation id {region.number} ({photo.name}.jpg) has no usable mask: {error}"
        ) from error
