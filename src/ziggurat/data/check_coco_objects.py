"""Check one annotation of a COCO file: its box, its area, its mask and its keypoints."""

import math
from collections.abc import Mapping

from ziggurat.data.coordinates import is_coordinate
from ziggurat.data.findings import ExampleObject
from ziggurat.data.segments import Segment, read_segment
from ziggurat.keypoints import Skeleton
from ziggurat.ops.flags import read_flag
from ziggurat.ops.skeletons import read_points
from ziggurat.types import ImageSize

Entry = Mapping[str, object]

_TOLERANCE = 1.0
"""Pixels by which a box, a polygon or a keypoint may leave the image: tools round either way."""


def check_object(
    entry: Entry, size: ImageSize | None, skeleton: Skeleton | None = None
) -> list[str]:
    """Name everything that is wrong with an annotation's geometry.

    Args:
        entry: The annotation.
        size: Height and width of its image, or None if the file does not say.
        skeleton: What its keypoints are, or None where the file has none.
    """
    return [
        *_check_box(entry.get("bbox"), size),
        *_check_area(entry),
        *_check_flags(entry),
        *_check_mask(entry, size),
        *([] if skeleton is None else _check_keypoints(entry, size, skeleton)),
    ]


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
    area = entry.get("area", 1)  # a missing one is that of the mask or the box
    if type(area) in (int, float) and 0 < area < math.inf:  # type: ignore[operator]
        return []
    return [f"area {area!r} is not a positive number; training and COCO's metric need one"]


def _check_flags(entry: Entry) -> list[str]:
    reasons = []
    for key in ("iscrowd", "difficult"):
        try:
            read_flag(entry, key)
        except ValueError as error:
            reasons.append(str(error))
    return reasons


def _check_mask(entry: Entry, size: ImageSize | None) -> list[str]:
    segmentation = entry.get("segmentation")
    # Boxes alone are fine for detection.
    if segmentation is None or segmentation == [] or size is None:
        return []
    try:
        read_segment(segmentation, size)
    except ValueError as error:
        return [str(error)]
    if not isinstance(segmentation, list):
        return []
    beyond = max(
        max(-min(xs), -min(ys), max(xs) - size[1], max(ys) - size[0])
        for xs, ys in ((polygon[::2], polygon[1::2]) for polygon in segmentation)
    )
    return [f"a polygon leaves the image by {beyond:g} pixels"] if beyond > _TOLERANCE else []


def _check_keypoints(entry: Entry, size: ImageSize | None, skeleton: Skeleton) -> list[str]:
    try:
        points = read_points(entry.get("keypoints"), len(skeleton))
    except ValueError as error:
        return [str(error)]
    reasons = []
    num_labelled = int((points[:, 2] > 0).sum())
    stated = entry.get("num_keypoints", num_labelled)
    if stated != num_labelled:
        reasons.append(f"num_keypoints is {stated!r}, but {num_labelled} keypoints are labelled")
    if size is None:
        return reasons
    for name, (x, y, visibility) in zip(skeleton.names, points.tolist(), strict=True):
        beyond = max(-x, -y, x - (size[1] - 1), y - (size[0] - 1))
        if visibility and beyond > _TOLERANCE:
            reasons.append(
                f"the keypoint {name!r} is outside the image by {beyond:g} pixels: x {x:g}, "
                f"y {y:g}, image {size[1]} wide and {size[0]} high"
            )
    return reasons


def read_object(
    entry: Entry, label: int, size: ImageSize, skeleton: Skeleton | None = None
) -> ExampleObject:
    """Take over an annotation in which `check_object` found nothing."""
    box, segmentation = entry["bbox"], entry.get("segmentation")
    assert isinstance(box, list)
    x, y, width, height = (float(value) for value in box)
    segment = read_segment(segmentation, size) if segmentation else Segment((), is_runs=False)
    points = None
    if skeleton is not None:
        points = read_points(entry.get("keypoints"), len(skeleton))
    return ExampleObject(label, (x, y, width, height), segment, points)
