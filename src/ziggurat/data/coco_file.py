"""Read and check COCO annotations: ids that fit together, numbers that are numbers.

Left out, as official training does, and counted: crowds, boxes thinner than a pixel, boxes
outside their image, objects without area, and those that VOC calls difficult.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

from ziggurat.data.coordinates import is_coordinate
from ziggurat.data.object_rules import Box, ObjectUse, use_of
from ziggurat.data.segments import Segment, SegmentTable, read_segment
from ziggurat.data.tables import IdTable, SizeTable, TextTable
from ziggurat.errors import ZigguratError
from ziggurat.keypoints import Skeleton
from ziggurat.ops.image_names import with_file_name
from ziggurat.ops.skeletons import PIXEL_CENTRE, read_points, read_skeleton
from ziggurat.types import ImageSize


def image_size(entry: Mapping[str, object]) -> ImageSize | None:
    """Return height and width of an entry of "images", or None unless both are whole pixels.

    Args:
        entry: The entry.
    """
    height, width = entry.get("height"), entry.get("width")
    if (
        type(height) is int
        and type(width) is int
        and min(height, width) >= 1
        and is_coordinate(max(height, width))
    ):
        return height, width
    return None


@dataclass(frozen=True)
class CocoFile:
    """What a detector needs of an annotation file.

    The boxes of image i are rows `offsets[i]` to `offsets[i + 1]`. All is in arrays and tables,
    not in a million objects, so that worker processes share it.

    Attributes:
        path: Where it was read from.
        classes: Names in the order of the labels, that is of sorted category ids.
        category_ids: Category id of each label.
        image_ids: Id of each image, in the order of the file.
        file_names: File of each image, relative to the image folder.
        sizes: Height and width of each image.
        boxes: x1, y1, x2, y2 in pixels of the image.
        labels: Class of each box, 0..K-1.
        offsets: First box of each image, and the number of all boxes at the end.
        segments: Masks of the boxes' objects, where they were asked for.
        left_out: What was left out, and how often.
        unfindable: Objects that an evaluation counts although no box can match theirs: what is
            wrong with them, and how often.
        points: x, y in pixels of the image and visibility of the keypoints of the boxes' objects,
            where they were asked for.
        skeleton: What the keypoints are, likewise.
    """

    path: Path
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: IdTable
    file_names: TextTable
    sizes: SizeTable
    boxes: Float32[np.ndarray, "M 4"]
    labels: Int64[np.ndarray, " M"]
    offsets: Int64[np.ndarray, " n"]
    segments: SegmentTable | None
    left_out: Mapping[str, int]
    unfindable: Mapping[str, int]
    points: Float32[np.ndarray, "M P 3"] | None = None
    skeleton: Skeleton | None = None

    def notes_of_evaluation(self) -> tuple[str, ...]:
        """Say how many true objects make the numbers of an evaluation lower, if there are any."""
        if not self.unfindable:
            return ()
        counts = ", ".join(f"{count} x {what}" for what, count in self.unfindable.items())
        return (
            f"{self.path}: counted as pycocotools does, but cannot be found: {counts}; "
            "`ziggurat data check` names each one",
        )


SOURCE = "ziggurat_source"
"""Key of what was read from another format: of an image its file, of an annotation file and
entry."""

IGNORED = "ignored"
"""Key of an image's pixels that the rules of Cityscapes leave out, as run lengths."""


@dataclass(frozen=True)
class Annotations:
    """Annotations of another format, laid out as a COCO file.

    Attributes:
        path: File or folder that they were read from, for messages.
        content: What the COCO file would hold.
    """

    path: Path
    content: Mapping[str, object]


def read_coco_file(
    source: Path | Annotations, *, with_masks: bool = False, with_keypoints: bool = False
) -> CocoFile:
    """Read the boxes, and the masks and the keypoints where asked.

    Whatever is wrong raises `ZigguratError`: no file, no JSON, no images or categories, ids that
    are doubled or unknown, names that are doubled or no text, boxes and sizes that are no numbers,
    masks and keypoints that are none.

    Args:
        source: The JSON file, or its content.
        with_masks: Whether to read the masks too; every object must have one then.
        with_keypoints: Whether to read the keypoints too; an object without has none labelled.
    """
    path = source if isinstance(source, Path) else source.path
    tables = _tables(path, read_json(path) if isinstance(source, Path) else source.content)
    categories = sorted(_by_id(path, "categories", tables["categories"]).items())
    names = _class_names(path, [category for _, category in categories])
    images = _by_id(path, "images", tables["images"])
    sizes = [_size(path, image) for image in images.values()]
    label_of = {category_id: label for label, (category_id, _) in enumerate(categories)}
    row_of = {image_id: row for row, image_id in enumerate(images)}
    skeleton = _skeleton(path, tables) if with_keypoints else None
    rows, boxes, labels, points = [], [], [], []
    segments: list[Segment] = []
    left_out: Counter[str] = Counter()
    unfindable: Counter[str] = Counter()
    for annotation in _by_id(path, "annotations", tables["annotations"]).values():
        row = _look_up(path, annotation, "image_id", row_of)
        label = _look_up(path, annotation, "category_id", label_of)
        box = _box(path, annotation)
        use = _use(path, annotation, box, sizes[row])
        if use.unfindable is not None:
            unfindable[use.unfindable] += 1
        if use.left_out is not None:
            left_out[use.left_out] += 1
            continue
        rows.append(row)
        boxes.append(box)
        labels.append(label)
        if skeleton is not None:
            points.append(_points(path, annotation, len(skeleton)))
        if with_masks:
            segment, num_slivers = _segment(path, annotation, sizes[row])
            segments.append(segment)
            left_out["polygon below three corners"] += num_slivers
    order = np.argsort(np.asarray(rows, dtype=np.int64), kind="stable")
    counts = np.bincount(np.asarray(rows, dtype=np.int64), minlength=len(images))
    return CocoFile(
        path=path,
        classes=names,
        category_ids=tuple(category_id for category_id, _ in categories),
        image_ids=IdTable(images),
        file_names=TextTable(
            _text(path, "image", with_file_name(image), "file_name") for image in images.values()
        ),
        sizes=SizeTable(sizes),
        boxes=np.asarray(boxes, dtype=np.float32).reshape(-1, 4)[order],
        labels=np.asarray(labels, dtype=np.int64)[order],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        segments=SegmentTable.of([segments[i] for i in order]) if with_masks else None,
        left_out=dict(+left_out),
        unfindable=dict(unfindable),
        points=None
        if skeleton is None
        else np.asarray(points, dtype=np.float32).reshape(-1, len(skeleton), 3)[order],
        skeleton=skeleton,
    )


def read_json(path: Path) -> object:
    """Read an annotation file.

    Args:
        path: The file.

    Raises:
        ZigguratError: If there is none, it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ZigguratError(f"annotation file {path} does not exist") from None
    except OSError as error:
        raise ZigguratError(f"cannot read annotation file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # bad UTF-8 included
        raise ZigguratError(f"annotation file {path} is no valid JSON: {error}") from error


def _tables(path: Path, content: object) -> dict[str, list[object]]:
    tables: dict[str, list[object]] = {}
    for key in ("images", "annotations", "categories"):
        table = content.get(key) if isinstance(content, Mapping) else None
        if not isinstance(table, list):
            raise ZigguratError(
                f"{path} is no COCO annotation file: expected an object with the lists images, "
                f"annotations and categories, and {key!r} is missing or no list"
            )
        if not table and key != "annotations":
            raise ZigguratError(f"{path} has zero {key}; nothing can be learned or measured")
        tables[key] = table
    return tables


def _by_id(path: Path, table: str, entries: Sequence[object]) -> dict[int, Mapping[str, object]]:
    found: dict[int, Mapping[str, object]] = {}
    for position, entry in enumerate(entries):
        number = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or type(number) is not int:
            raise ZigguratError(
                f"{path}: entry {position} of {table} has no integer 'id' (got {number!r})"
            )
        if number in found:
            raise ZigguratError(f"{path}: {table} has the id {number} twice; ids must be unique")
        found[number] = entry
    return found


def _get(path: Path, what: str, entry: Mapping[str, object], key: str) -> object:
    if key not in entry:
        near = get_close_matches(key, entry, n=1)
        hint = f" (did you mean its {near[0]!r}?)" if near else ""
        raise ZigguratError(f"{path}: {what} id {entry['id']} has no {key!r}{hint}")
    return entry[key]


def _text(path: Path, what: str, entry: Mapping[str, object], key: str) -> str:
    value = _get(path, what, entry, key)
    if not isinstance(value, str) or not value:
        raise ZigguratError(
            f"{path}: {what} id {entry['id']} has the {key} {value!r}; expected a text that is "
            "not empty"
        )
    return value


def _class_names(path: Path, categories: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    # Models, metrics and reports tell classes apart by their names.
    names: dict[str, object] = {}
    for category in categories:
        name = _text(path, "category", category, "name")
        if name in names:
            raise ZigguratError(
                f"{path}: categories {names[name]} and {category['id']} have the same name "
                f"{name!r}; rename one of them"
            )
        names[name] = category["id"]
    return tuple(names)


def _look_up(
    path: Path, annotation: Mapping[str, object], key: str, known: Mapping[int, int]
) -> int:
    number = _get(path, "annotation", annotation, key)
    if type(number) is not int or number not in known:
        what = key.removesuffix("_id")
        raise ZigguratError(
            f"{path}: annotation id {annotation['id']} has the unknown {key} {number!r}; "
            f"none of the {len(known)} {'categories' if what == 'category' else 'images'} has it"
        )
    return known[number]


def _size(path: Path, image: Mapping[str, object]) -> ImageSize:
    height, width = (_get(path, "image", image, key) for key in ("height", "width"))
    size = image_size(image)
    if size is None:
        raise ZigguratError(
            f"{path}: image id {image['id']} has width {width!r} and height {height!r}; "
            "expected whole pixels, at least 1 and below 100 million"
        )
    return size


def _box(path: Path, annotation: Mapping[str, object]) -> Box:
    bbox = _get(path, "annotation", annotation, "bbox")
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(is_coordinate(v) for v in bbox)):
        raise ZigguratError(
            f"{path}: annotation id {annotation['id']} has the bbox {bbox!r}; "
            "expected four finite numbers x, y, width, height"
        )
    x, y, width, height = (float(value) for value in bbox)
    return x, y, x + width, y + height


def _use(path: Path, annotation: Mapping[str, object], box: Box, size: ImageSize) -> ObjectUse:
    try:
        return use_of(annotation, box, size)
    except ValueError as error:
        raise ZigguratError(f"{_where(path, annotation)}: {error}") from error


def _segment(path: Path, annotation: Mapping[str, object], size: ImageSize) -> tuple[Segment, int]:
    """Take a mask over; parts of one or two corners, which cover nothing, are counted.

    Raises:
        ZigguratError: If it is no mask, or every part is such a part.
    """
    segmentation = annotation.get("segmentation")
    num_slivers = 0
    if isinstance(segmentation, list):
        parts = [part for part in segmentation if not (isinstance(part, list) and len(part) < 6)]
        # An object of such parts alone is told by their fault.
        num_slivers = len(segmentation) - len(parts) if parts else 0
        segmentation = parts or segmentation
    try:
        return read_segment(segmentation, size), num_slivers
    except ValueError as error:
        raise ZigguratError(f"{_where(path, annotation)} has no usable mask: {error}") from error


def _skeleton(path: Path, tables: Mapping[str, Sequence[object]]) -> Skeleton:
    """Read what the keypoints are.

    Raises:
        ZigguratError: If the file does not say it, or has none.
    """
    categories = [entry for entry in tables["categories"] if isinstance(entry, dict)]
    labelled = next(
        (e for e in tables["annotations"] if isinstance(e, dict) and e.get("keypoints")), None
    )
    values = None if labelled is None else labelled["keypoints"]
    try:
        return read_skeleton(categories, len(values) if isinstance(values, list) else None)
    except ValueError as error:
        raise ZigguratError(f"{path} has no usable keypoints: {error}") from error


def _points(
    path: Path, annotation: Mapping[str, object], num_points: int
) -> Float64[np.ndarray, "P 3"]:
    """Read the keypoints of an object, in pixels of the image.

    Raises:
        ZigguratError: If they are wrong.
    """
    try:
        points = read_points(annotation.get("keypoints"), num_points)
    except ValueError as error:
        raise ZigguratError(
            f"{_where(path, annotation)} has no usable keypoints: {error}"
        ) from error
    return points + [PIXEL_CENTRE, PIXEL_CENTRE, 0]


def _where(path: Path, annotation: Mapping[str, object]) -> str:
    source = annotation.get(SOURCE)
    if isinstance(source, tuple):
        return f"{path / source[0]}: {source[1]}"
    return f"{path}: annotation id {annotation['id']}"
