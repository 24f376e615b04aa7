"""Check one annotation of a COCO file: its box, its area and its mask."""

import math
from collections.abc import Mapping

from ziggurat.data.coco_file import is_coordinate
from ziggurat.data.findings import ExampleObject
from ziggurat.data.masks import runs_from_text
from ziggurat.types import ImageSize

Entry = Mapping[str, object]

_TOLERANCE = 1.0
"""Pixels by which a box or polygon may leave the image: annotation tools round to either side."""


def check_object(entry: Entry, size: ImageSize | None) -> list[str]:
    """Name everything that is wrong with an annotation's geometry.

    Args:
        entry: The annotation.
        size: Height and width of its image, or None if the file does not say.
    """
    return [*_check_box(entry.get("bbox"), size), *_check_area(entry), *_check_mask(entry, size)]


def _check_box(box: object, size: ImageSize | None) -> list[str]:
    if not (isinstance(box, list) and len(box) == 4 and all(is_coordinate(value) for value in box)):
        return [f"the box {box!r} is not four finite numbers x, y, width, height"]
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return [f"box without area: width {width:g}, height {height:g}"]
    if size is None:
        return []
    beyond = max(-x, -y, x + width - size[1], y + height - size[0])
    if beyond > _TOLERANCE:
        return [
            f"box outside the image by {beyond:g} pixels: x {x:g} to {x + width:g}, "
            f"y {y:g} to {y + height:g}, image {size[1]} wide and {size[0]} high"
        ]
    return []


def _check_area(entry: Entry) -> list[str]:
    area = entry.get("area")
    if type(area) in (int, float) and 0 < area < math.inf:  # type: ignore[operator]
        return []
    return [f"area {area!r} is not a positive number; training and COCO's metric need it"]


def _check_mask(entry: Entry, size: ImageSize | None) -> list[str]:
    segmentation = entry.get("segmentation")
    # Boxes alone are fine for detection.
    if segmentation is None or segmentation == []:
        return []
    if isinstance(segmentation, list):
        reasons = (_check_polygon(polygon, size) for polygon in segmentation)
        return list(dict.fromkeys(reason for reason in reasons if reason))
    if isinstance(segmentation, dict):
        return _check_runs(segmentation, size)
    return [f"segmentation is a {type(segmentation).__name__}, neither polygons nor run lengths"]


def _check_polygon(polygon: object, size: ImageSize | None) -> str | None:
    if not isinstance(polygon, list) or not all(is_coordinate(value) for value in polygon):
        return "a polygon is not a list of finite numbers"
    if len(polygon) < 6 or len(polygon) % 2:
        return f"a polygon has {len(polygon)} numbers; expected x, y of at least three corners"
    if size is None:
        return None
    xs, ys = polygon[::2], polygon[1::2]
    beyond = max(-min(xs), -min(ys), max(xs) - size[1], max(ys) - size[0])
    return f"a polygon leaves the image by {beyond:g} pixels" if beyond > _TOLERANCE else None


def _check_runs(segmentation: Entry, size: ImageSize | None) -> list[str]:
    own_size, counts = segmentation.get("size"), segmentation.get("counts")
    if not (
        isinstance(own_size, list)
        and len(own_size) == 2
        and all(type(value) is int and value > 0 for value in own_size)
    ):
        return [f"run lengths have the size {own_size!r}; expected height and width"]
    if size is not None and own_size != list(size):
        return [f"run lengths have the size {own_size}, the image {list(size)} (height, width)"]
    if isinstance(counts, str):
        try:
            counts = runs_from_text(counts)
        except ValueError as error:
            return [str(error)]
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        return ["run lengths are neither whole numbers nor text"]
    if any(count < 0 for count in counts) or sum(counts) != own_size[0] * own_size[1]:
        return [f"run lengths add up to {sum(counts)} pixels, not to {own_size[0]} x {own_size[1]}"]
    return []


def read_object(entry: Entry, label: int) -> ExampleObject:
    """Take over an annotation in which `check_object` found nothing."""
    box, segmentation = entry["bbox"], entry.get("segmentation")
    assert isinstance(box, list)
    x, y, width, height = (float(value) for value in box)
    polygons: list[list[float]] = []
    runs: list[int] = []
    if isinstance(segmentation, list):
        polygons = [[float(value) for value in polygon] for polygon in segmentation]
    elif isinstance(segmentation, dict):
        counts = segmentation["counts"]
        runs = runs_from_text(counts) if isinstance(counts, str) else counts
    return ExampleObject(label, (x, y, width, height), polygons, runs)
