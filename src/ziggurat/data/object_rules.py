"""Which objects of an annotation file are trained on, and which an evaluation can find at all."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ziggurat.ops.flags import read_flag
from ziggurat.types import ImageSize

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ObjectUse:
    """What an object is of use for.

    Attributes:
        left_out: Why official training leaves it out; None where it does not.
        unfindable: Why no box in the image overlaps it although an evaluation counts it; None where
            one can, or where it does not count.
    """

    left_out: str | None
    unfindable: str | None


def use_of(annotation: Mapping[str, object], box: Box, size: ImageSize) -> ObjectUse:
    """Judge an object.

    Args:
        annotation: Its entry.
        box: x1, y1, x2, y2 in pixels, as the entry says.
        size: Height and width of its image.

    Raises:
        ValueError: If its area, "iscrowd" or "difficult" is none. They may be missing: the
            evaluation takes the area of the mask or the box then.
    """
    area = annotation.get("area", 1)
    if type(area) not in (int, float) or not abs(area) < math.inf:  # type: ignore[arg-type]
        raise ValueError(f"area is {area!r}; expected a finite number")
    is_crowd, is_difficult = (read_flag(annotation, key) for key in ("iscrowd", "difficult"))
    x1, y1, x2, y2 = box
    is_outside = min(x2, size[1]) <= max(x1, 0) or min(y2, size[0]) <= max(y1, 0)
    left_out = {
        "crowd": is_crowd,
        "difficult": is_difficult,
        "box below 1 x 1 pixel": x2 - x1 < 1 or y2 - y1 < 1,
        "box outside the image": is_outside,
        "no area": area <= 0,  # type: ignore[operator]
    }
    unfindable = {
        "box of negative size": x2 < x1 or y2 < y1,
        "box without area": x2 == x1 or y2 == y1,
        "box outside the image": is_outside,
    }
    return ObjectUse(_first(left_out), None if is_crowd else _first(unfindable))


def _first(reasons: Mapping[str, bool]) -> str | None:
    return next((reason for reason, holds in reasons.items() if holds), None)
