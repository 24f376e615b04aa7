"""Read the masks of objects of Pascal VOC.

    JPEGImages/*.jpg, ImageSets/Segmentation/<split>.txt
    SegmentationObject/*.png    number of the object of each pixel: 1, 2, ...; 0 = background
    SegmentationClass/*.png     class of each pixel; 0 = background
    Annotations/*.xml           boxes, and which objects are difficult; need not be there

255 is the border between objects and belongs to none. Object n of a mask is the n-th object of
the XML file, if the two are of one class and their boxes overlap; any other takes the object of
its class that it overlaps most, from an IoU of 0.5 on. Without such an object the box is that of
the mask. Objects of an XML file that have no pixel are left out.

The classes are the 20 of VOC, or those of classes.txt: its first line is stored as 1.

Read by the description of the layout in VOC's development kit, not tried on published files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ziggurat.class_lists import class_list as known_classes
from ziggurat.data.decode import ImageDecodeError, read_many
from ziggurat.data.foreign import Box, ContentBuilder, Report, class_list, find_image
from ziggurat.data.image_lists import read_list
from ziggurat.data.label_files import Numbers, read_numbers
from ziggurat.data.label_layouts import listed_splits
from ziggurat.data.object_maps import Region, find_regions
from ziggurat.data.voc_format import VocObject, parse_xml, read_objects
from ziggurat.types import UNLABELLED, ImageSize

_OBJECTS = "SegmentationObject"
_CLASSES = "SegmentationClass"
_MIN_IOU = 0.5


def is_voc_instances(root: Path) -> bool:
    """Tell whether a folder has masks of objects as Pascal VOC has them."""
    return bool(voc_instance_splits(root))


def voc_instance_splits(root: Path) -> tuple[str, ...]:
    """Name the lists of images that have masks.

    Args:
        root: Folder of the data set.
    """
    return listed_splits(root, _OBJECTS, "Segmentation")


def read_voc_instances(root: Path, split: str, report: Report) -> tuple[dict[str, object], Path]:
    """Lay a split out as a COCO file.

    Args:
        root: Folder of the data set.
        split: One of `voc_instance_splits`.
        report: Is told of what cannot be taken over.

    Returns:
        The content of the COCO file, and the folder that its file names are relative to.
    """
    classes = class_list(root) or known_classes("pascal_voc").classes[1:]
    builder = ContentBuilder(classes, report)
    listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    names = read_list(listed, root / _OBJECTS, ".png")
    images = root / "JPEGImages"
    for name, found in zip(names, read_many(partial(_read, root, classes), names), strict=True):
        for fault in found.faults:
            report(*fault)
        if found.size is None:
            continue
        source = f"{_OBJECTS}/{name}.png"
        image_id = builder.add_image(find_image(images, "", name), found.size, source)
        if image_id is None:
            continue
        described = _describe(root, name, found.objects, report)
        for number, (label, region) in found.objects.items():
            other = described.get(number)
            builder.add_object(
                image_id,
                label,
                region.box if other is None else other.box,
                (source, f"object {number}"),
                region=region,
                is_difficult=other is not None and other.is_difficult,
            )
    return builder.content(), images


@dataclass(frozen=True)
class _Found:
    """What the masks of an image say.

    Attributes:
        size: Height and width; None if they cannot be used.
        objects: Class and pixels of each number.
        faults: Files, relative to the root, and what is the matter with them.
    """

    size: ImageSize | None
    objects: Mapping[int, tuple[str, Region]]
    faults: tuple[tuple[str, str], ...]


def _read(root: Path, classes: Sequence[str], name: str) -> _Found:
    numbers_file, classes_file = f"{_OBJECTS}/{name}.png", f"{_CLASSES}/{name}.png"
    maps: list[Numbers] = []
    faults: list[tuple[str, str]] = []
    for file in (numbers_file, classes_file):
        try:
            maps.append(read_numbers(root / file))
        except ImageDecodeError as error:
            faults.append((file, error.reason))
    if faults:
        return _Found(None, {}, tuple(faults))
    numbers, labels = maps
    size = (numbers.shape[0], numbers.shape[1])
    reason = _fault(labels, size, len(classes))
    if reason is not None:
        return _Found(None, {}, ((classes_file, reason),))
    # Pixels by object and class, in one pass.
    pairs = numbers.astype(np.int64) << 8 | labels
    table = np.bincount(pairs.ravel(), minlength=(int(numbers.max()) + 1) << 8).reshape(-1, 256)
    objects: dict[int, tuple[str, Region]] = {}
    for number, region in find_regions(numbers, without=(0, UNLABELLED)).items():
        held = [classes[place] for place in np.flatnonzero(table[number, 1:UNLABELLED]).tolist()]
        if len(held) == 1:
            objects[number] = (held[0], region)
            continue
        reason = (
            f"object {number} has pixels of {' and '.join(held) or 'no class'} in {classes_file}; "
            "expected those of one class"
        )
        faults.append((numbers_file, reason))
    return _Found(size, objects, tuple(faults))


def _fault(labels: Numbers, size: ImageSize, num_classes: int) -> str | None:
    """Say why a map of classes does not belong to a map of objects, if it does not."""
    if labels.shape != size:
        return (
            f"its size {labels.shape[0]} x {labels.shape[1]} (height x width) differs from "
            f"{size[0]} x {size[1]} of the map in {_OBJECTS}"
        )
    wrong = labels[(labels > num_classes) & (labels != UNLABELLED)]
    if wrong.size:
        return f"it has the value {wrong.min()}; expected 0..{num_classes}, or 255 for the border"
    return None


def _describe(
    root: Path, name: str, objects: Mapping[int, tuple[str, Region]], report: Report
) -> dict[int, VocObject]:
    """Find what the XML file, where there is one, says of each object of a mask."""
    path = root / "Annotations" / f"{name}.xml"
    if not path.is_file():
        return {}
    source = path.relative_to(root).as_posix()
    try:
        listed = read_objects(parse_xml(path), source, report)
    except ValueError as error:
        report(source, str(error))
        return {}
    left = {number: one for number, one in enumerate(listed, start=1) if one is not None}
    found: dict[int, VocObject] = {}
    for number, (label, region) in objects.items():
        same = left.get(number)
        if same is not None and same.name == label and _iou(same.box, region.box) > 0:
            found[number] = left.pop(number)
    others = [
        (_iou(other.box, region.box), number, place)
        for number, (label, region) in objects.items()
        for place, other in left.items()
        if number not in found and other.name == label
    ]
    for iou, number, place in sorted(others, key=lambda pair: -pair[0]):
        if iou >= _MIN_IOU and number not in found and place in left:
            found[number] = left.pop(place)
    return found


def _iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b))
    return width * height / (areas - width * height)
