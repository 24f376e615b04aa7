"""What a COCO file says of keypoints: their names and sigmas, and the numbers of an object.

COCO counts pixels, 0 for the first: a keypoint there lies half a pixel nearer to the corner than
here, where the centre of the first pixel is at 0.5, as for boxes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np
from jaxtyping import Float64

from ziggurat.keypoints import COCO_PERSON, Pairs, Skeleton

PIXEL_CENTRE = 0.5
"""What a coordinate here is more than in a COCO file."""

COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)
"""How far apart people put each point of `COCO_PERSON`, as a share of the person's size."""

DEFAULT_SIGMA = 0.05
"""The same for points of which neither COCO nor the file says it."""

_SIDE = re.compile(r"(?<![a-z])(left|right|l|r)(?![a-z])", re.IGNORECASE)
_OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}
_FAR = 1e9

Category = Mapping[str, object]


def read_skeleton(categories: Sequence[Category], num_values: int | None) -> Skeleton:
    """Return the skeleton that all categories with keypoints share.

    Args:
        categories: Entries of the table "categories".
        num_values: Numbers of some object's keypoints: a file whose categories name no keypoints
            but whose objects have seventeen means COCO's.

    Raises:
        ValueError: If there are no names, wrong ones, or categories differ.
    """
    named = [entry for entry in categories if entry.get("keypoints")]
    if not named:
        if num_values == 3 * len(COCO_PERSON):
            return COCO_PERSON
        raise ValueError(
            "none of its categories names keypoints; expected their names in 'keypoints' of a "
            "category"
        )
    skeletons = [_skeleton(entry) for entry in named]
    for entry, skeleton in zip(named, skeletons, strict=True):
        if skeleton != skeletons[0]:
            raise ValueError(
                f"the categories {named[0].get('name')!r} and {entry.get('name')!r} have different "
                "keypoints; a model finds the same points on all objects"
            )
    return skeletons[0]


def read_sigmas(categories: Sequence[Category], skeleton: Skeleton) -> tuple[float, ...]:
    """Return how far apart people put each point, as a share of the object's size.

    The file may say it as "sigmas" beside the names. Otherwise COCO's points have COCO's, and any
    other has `DEFAULT_SIGMA`.

    Args:
        categories: Entries of the table "categories".
        skeleton: What `read_skeleton` gave.

    Raises:
        ValueError: If they are no positive numbers, one a point, or categories differ.
    """
    stated = [entry["sigmas"] for entry in categories if "sigmas" in entry]
    if not stated:
        is_coco = skeleton.names == COCO_PERSON.names
        return COCO_SIGMAS if is_coco else (DEFAULT_SIGMA,) * len(skeleton)
    sigmas = stated[0]
    if (
        not isinstance(sigmas, list)
        or len(sigmas) != len(skeleton)
        or not all(_is_number(sigma) and sigma > 0 for sigma in sigmas)
    ):
        raise ValueError(
            f"the sigmas of its keypoints are {sigmas!r}; expected {len(skeleton)} numbers above 0"
        )
    if any(other != sigmas for other in stated):
        raise ValueError("its categories have different sigmas; give all of them the same")
    return tuple(float(sigma) for sigma in sigmas)


def read_points(values: object, num_points: int) -> Float64[np.ndarray, "P 3"]:
    """Return x, y and visibility of an object's points, in COCO's pixels.

    Args:
        values: What an annotation has as "keypoints"; None or empty where it has none:
            not labelled.
        num_points: Points of the skeleton.

    Raises:
        ValueError: If these are not as many numbers, or a visibility is none.
    """
    if values is None or values == []:
        return np.zeros((num_points, 3))
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise ValueError("its keypoints are not a list of finite numbers")
    if len(values) != 3 * num_points:
        raise ValueError(
            f"its keypoints are {len(values)} numbers; expected {3 * num_points}: x, y and "
            f"visibility of {num_points} points"
        )
    points = np.array(values, dtype=np.float64).reshape(-1, 3)
    for number, visibility in enumerate(points[:, 2].tolist()):
        if visibility not in (0, 1, 2):
            raise ValueError(
                f"keypoint {number + 1} has the visibility {visibility:g}; expected 0 (not "
                "labelled), 1 (hidden) or 2 (seen)"
            )
    return points


def _skeleton(entry: Category) -> Skeleton:
    names = entry["keypoints"]
    is_text = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not isinstance(names, list) or not is_text or len(set(names)) < len(names):
        raise ValueError(
            f"the category {entry.get('name')!r} has the keypoints {names!r}; expected a list of "
            "different names"
        )
    pairs = _numbers(entry, "flip_pairs", len(names)) if "flip_pairs" in entry else _pairs(names)
    if len({point for pair in pairs for point in pair}) < 2 * len(pairs):
        raise ValueError(
            f"the category {entry.get('name')!r} has flip_pairs that name a point twice; expected "
            "each point in one pair at most"
        )
    return Skeleton(tuple(names), _numbers(entry, "skeleton", len(names)), pairs)


def _numbers(entry: Category, key: str, num_points: int) -> Pairs:
    """Read pairs of points, which files count from 1.

    Raises:
        ValueError: If they are none.
    """
    pairs = entry.get(key, [])
    is_right = isinstance(pairs, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(point) is int and 1 <= point <= num_points for point in pair)
        for pair in pairs
    )
    if not isinstance(pairs, list) or not is_right:
        raise ValueError(
            f"the category {entry.get('name')!r} has the {key} {pairs!r}; expected a list of pairs "
            f"of numbers of its keypoints, 1 to {num_points}"
        )
    return tuple((first - 1, second - 1) for first, second in pairs)


def _pairs(names: Sequence[str]) -> Pairs:
    """Find the points whose names differ in left and right alone; the left one comes first."""
    number_of = {name.lower(): number for number, name in enumerate(names)}
    pairs = []
    for number, name in enumerate(names):
        side = _SIDE.search(name)
        other = number_of.get(_SIDE.sub(lambda side: _OTHER_SIDE[side[0].lower()], name).lower())
        if side is not None and side[0].lower().startswith("l") and other is not None:
            pairs.append((number, other))
    return tuple(pairs)


def _is_number(value: object) -> TypeGuard[int | float]:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < _FAR  # type: ignore[arg-type]
