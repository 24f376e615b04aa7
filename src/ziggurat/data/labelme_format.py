"""Read LabelMe: a JSON file an image, beside it; <split>/*.json, or *.json for a single split.

A polygon, a rectangle or a mask is an object; shapes of one label and one group id are one object
in several parts; a circle becomes a polygon. Points and lines have no area and are reported.

The classes are all labels that occur, in the order of the alphabet, or those of classes.txt.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ziggurat.data.coordinates import is_coordinate
from ziggurat.data.foreign import ContentBuilder, Report, class_list, find_image, header_size
from ziggurat.data.labelme_masks import MaskPart, join_parts, read_mask
from ziggurat.types import ImageSize

SINGLE_SPLIT = "train"
"""Name of the split where the files lie in the data set's own folder."""

_CIRCLE_CORNERS = 48
_LOOKED_AT = 8


def is_labelme(root: Path) -> bool:
    """Tell whether a folder holds LabelMe's files."""
    return bool(labelme_splits(root))


def labelme_splits(root: Path) -> tuple[str, ...]:
    """Name the splits that there are.

    Args:
        root: Folder of the data set.
    """
    if not root.is_dir():
        return ()
    if _has_files(root):
        return (SINGLE_SPLIT,)
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    return tuple(path.name for path in folders if _has_files(path))


def _has_files(folder: Path) -> bool:
    # A few files are enough to know: they may be large, since some hold their image.
    for path in sorted(folder.glob("*.json"))[:_LOOKED_AT]:
        with suppress(ValueError):
            _read(path)
            return True
    return False


def read_labelme(root: Path, split: str, report: Report) -> tuple[dict[str, object], Path]:
    """Lay a split out as a COCO file.

    Args:
        root: Folder of the data set.
        split: One of `labelme_splits`.
        report: Is told of what cannot be taken over.

    Returns:
        The content of the COCO file, and the folder that its file names are relative to.
    """
    builder = ContentBuilder(class_list(root) or _labels_that_occur(root), report)
    folder = _folder(root, split)
    for path in sorted(folder.glob("*.json")):
        source = path.relative_to(root).as_posix()
        try:
            content = _read(path)
        except ValueError as error:
            report(source, str(error))
            continue
        file_name = _find_photo(folder, str(content.get("imagePath") or ""), path.stem)
        size = _stated_size(content) or header_size(folder / file_name)
        if size is None:
            report(source, f"it states no size, and its image {file_name} cannot be read")
            continue
        image_id = builder.add_image(file_name, size, source)
        if image_id is not None:
            _add_objects(builder, image_id, content, source, size)
    return builder.content(), folder


def _find_photo(folder: Path, stated: str, stem: str) -> str:
    """File of the photo, relative to the folder of its JSON file.

    The place that is stated goes first, as in LabelMe: beside a file of `ziggurat predict` lies a
    picture of the photo's name with the objects drawn in. Folders of another machine are passed
    over.
    """
    stated = stated.replace("\\", "/").strip()
    photo = folder / stated
    if not photo.is_file():
        return find_image(folder, stated, stem)
    return photo.name if photo.parent.samefile(folder) else Path(stated).as_posix()


def _folder(root: Path, split: str) -> Path:
    return root if _has_files(root) else root / split


def _read(path: Path) -> Mapping[str, object]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"it cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise ValueError("it has no list 'shapes', as LabelMe writes it")
    return content


def _stated_size(content: Mapping[str, object]) -> ImageSize | None:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if type(height) is int and type(width) is int and min(height, width) >= 1:
        return height, width
    return None


def _labels_that_occur(root: Path) -> tuple[str, ...]:
    labels: set[str] = set()
    for split in labelme_splits(root):
        for path in _folder(root, split).glob("*.json"):
            try:
                shapes = _read(path)["shapes"]
            except ValueError:  # reported where its split is read
                continue
            assert isinstance(shapes, list)
            found = (shape.get("label") for shape in shapes if isinstance(shape, dict))
            labels |= {label for label in found if isinstance(label, str) and label}
    return tuple(sorted(labels))


@dataclass
class _Object:
    """An object, whose parts may be shapes of their own.

    Attributes:
        label: Its class.
        place: Its first shape, for messages.
        outlines: Parts with corners, as flat x, y lists.
        masks: Parts with pixels.
    """

    label: str
    place: str
    outlines: list[list[float]] = field(default_factory=list)
    masks: list[MaskPart] = field(default_factory=list)


def _add_objects(
    builder: ContentBuilder,
    image_id: int,
    content: Mapping[str, object],
    source: str,
    size: ImageSize,
) -> None:
    shapes = content["shapes"]
    assert isinstance(shapes, list)
    objects: dict[object, _Object] = {}
    for number, shape in enumerate(shapes, start=1):
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(shape, dict) or not isinstance(label, str) or not label:
            builder.report(source, f"shape {number} has the label {label!r}; expected a name")
            continue
        group = shape.get("group_id")
        key = number if group is None else (label, group)
        place = f"shape {number} ({label})"
        try:
            part = _part(shape, size)
        except ValueError as error:
            builder.report(source, f"{place}: {error}")
            continue
        found = objects.setdefault(key, _Object(label, place))
        if isinstance(part, MaskPart):
            found.masks.append(part)
        else:
            found.outlines.append(part)
    for one in objects.values():
        _add_object(builder, image_id, one, source, size)


def _add_object(
    builder: ContentBuilder, image_id: int, found: _Object, source: str, size: ImageSize
) -> None:
    entry = (source, found.place)
    if found.masks:
        try:
            region = join_parts(found.masks, found.outlines, size)
        except ValueError as error:
            builder.report(source, f"{found.place}: {error}")
            return
        builder.add_object(image_id, found.label, region.box, entry, region=region)
        return
    xs = [x for outline in found.outlines for x in outline[::2]]
    ys = [y for outline in found.outlines for y in outline[1::2]]
    box = (min(xs), min(ys), max(xs), max(ys))
    builder.add_object(image_id, found.label, box, entry, polygons=found.outlines)


def _part(shape: Mapping[str, object], size: ImageSize) -> list[float] | MaskPart:
    """Read a shape: its outline, or its pixels.

    Raises:
        ValueError: If it has no area, or is not written as it should be; says why.
    """
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    if not isinstance(points, list) or not all(_is_point(point) for point in points):
        raise ValueError("its points are no list of finite x, y")
    if kind == "mask":
        return read_mask(shape, size)
    if kind in ("polygon", "oriented_rectangle"):
        if len(points) < 3:
            raise ValueError(f"a {kind} of {len(points)} points; expected three or more")
        return [float(value) for point in points for value in point]
    if kind not in ("rectangle", "circle"):
        raise ValueError(
            f"a shape of the type {kind!r} has no area that can be read; expected a polygon, a "
            "rectangle, a circle or a mask"
        )
    if len(points) != 2:
        raise ValueError(f"a {kind} of {len(points)} points; expected two")
    (x1, y1), (x2, y2) = points
    if kind == "rectangle":
        return [float(value) for value in (x1, y1, x2, y1, x2, y2, x1, y2)]
    radius = math.hypot(x2 - x1, y2 - y1)
    angles = (2 * math.pi * corner / _CIRCLE_CORNERS for corner in range(_CIRCLE_CORNERS))
    return [
        value
        for angle in angles
        for value in (x1 + radius * math.cos(angle), y1 + radius * math.sin(angle))
    ]


def _is_point(point: object) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(is_coordinate(v) for v in point)
