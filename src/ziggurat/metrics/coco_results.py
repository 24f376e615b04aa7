"""Read detections in COCO's result format, to evaluate them again without the model.

Every entry is checked against the annotations before anything is counted: results of other data
would give a number, too, and a wrong one. Images and classes that an entry names are found by these
names, the others by their ids.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from hotcoco import mask as coco_mask
from jaxtyping import Float64

from ziggurat.errors import ZigguratError
from ziggurat.metrics.coco_counts import FoundObjects, Kind
from ziggurat.metrics.coco_truth import CocoTruth, checked_run_lengths
from ziggurat.metrics.result_names import ResultNames

Points = Float64[np.ndarray, "P 3"]

_TOO_FAR = 1e9
"""No box is so many pixels away; NaN and infinity are not below it either."""


@dataclass(frozen=True)
class CocoResults:
    """Content of a results file.

    Attributes:
        path: The file.
        entries: The list, as it was read.
        kinds: What its entries have: boxes, masks, keypoints, or several of them.
    """

    path: Path
    entries: Sequence[Mapping[str, Any]]
    kinds: tuple[Kind, ...]

    def objects(self, truth: CocoTruth) -> dict[int, FoundObjects]:
        """Check all entries and sort them by image; images without detections are there, too.

        Args:
            truth: The annotations, with masks or keypoints if the results have some.

        Raises:
            ZigguratError: If an entry is wrong or of other data.
        """
        names = ResultNames(truth)
        sizes = {
            image["id"]: (image.get("height", 0), image.get("width", 0)) for image in truth.images
        }
        num_points = 0 if truth.skeleton is None else len(truth.skeleton)
        points: dict[int, list[Points]] = {image_id: [] for image_id in sizes}
        rows: dict[int, list[list[float]]] = {image_id: [] for image_id in sizes}
        masks: dict[int, list[str]] = {image_id: [] for image_id in sizes}
        for position, entry in enumerate(self.entries):
            what = f"{self.path}: entry {position}"
            image_id = names.image_id(what, entry)
            category = names.category_id(what, entry)
            score = entry.get("score")
            if not _is_number(score):
                raise ZigguratError(f"{what} has the score {score!r}; expected a finite number")
            box = _box(what, entry) if "boxes" in self.kinds else None
            if "masks" in self.kinds:
                mask = _mask(what, entry, sizes[image_id])
                masks[image_id].append(mask["counts"])
                box = coco_mask.to_bbox(mask).tolist() if box is None else box
            if "keypoints" in self.kinds:
                points[image_id].append(_points(what, entry, num_points))
                box = _around(points[image_id][-1]) if box is None else box
            assert box is not None  # there is one kind at least
            rows[image_id].append([0, *box, score, category])
        return {
            image_id: FoundObjects(
                np.array(table, dtype=np.float64).reshape(-1, 7),
                tuple(masks[image_id]),
                sizes[image_id],
                np.array(points[image_id]).reshape(-1, num_points, 3) if num_points else None,
            )
            for image_id, table in rows.items()
        }


def read_results(path: Path) -> CocoResults:
    """Read a results file; `CocoResults.objects` checks its entries.

    Args:
        path: A JSON list of objects with image_id, category_id, score, and bbox, segmentation or
            keypoints.

    Raises:
        ZigguratError: If it cannot be read or is no such list.
    """
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise ZigguratError(f"cannot read the results file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # bad UTF-8 included
        raise ZigguratError(f"the results file {path} is no valid JSON: {error}") from error
    if not isinstance(entries, list):
        hint = ""
        if isinstance(entries, dict) and "annotations" in entries:
            hint = "; it looks like annotations, that is, the truth"
        raise ZigguratError(
            f"{path} is no COCO results file: expected a list of detections with image_id, "
            f"category_id, score, and bbox, segmentation or keypoints{hint}"
        )
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ZigguratError(
                f"{path}: entry {position} is {entry!r:.40}; expected an object with image_id, "
                "category_id, score, and bbox, segmentation or keypoints"
            )
    keys: dict[Kind, str] = {"boxes": "bbox", "masks": "segmentation", "keypoints": "keypoints"}
    kinds = [kind for kind, key in keys.items() if any(key in entry for entry in entries)]
    if entries and not kinds:
        raise ZigguratError(
            f"{path}: entry 0 has neither bbox, segmentation nor keypoints, so there is nothing to "
            "compare"
        )
    return CocoResults(path, entries, tuple(kinds or ["boxes"]))


def count_outside(truth: CocoTruth, found: Mapping[int, FoundObjects]) -> int:
    """Count the found boxes that lie wholly outside their image.

    Args:
        truth: The annotations; images of which they do not say the size are passed over.
        found: What was found, by image id.
    """
    number = 0
    for image in truth.images:
        if "height" in image and "width" in image and image["id"] in found:
            boxes = found[image["id"]].rows[:, 1:5]
            far = boxes[:, :2] + boxes[:, 2:]
            is_outside = (far < 0) | (boxes[:, :2] > [image["width"], image["height"]])
            number += int(is_outside.any(axis=1).sum())
    return number


def _box(what: str, entry: Mapping[str, Any]) -> list[float]:
    box = entry.get("bbox")
    is_box = isinstance(box, list) and len(box) == 4 and all(_is_number(v) for v in box)
    if not isinstance(box, list) or not is_box or min(box[2:]) < 0:
        raise ZigguratError(
            f"{what} has the bbox {box!r}; expected finite x, y, width, height, and no size below 0"
        )
    return [float(value) for value in box]


def _mask(what: str, entry: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    mask = entry.get("segmentation")
    found = checked_run_lengths(mask) if isinstance(mask, dict) else None
    if found is None:
        raise ZigguratError(
            f"{what} has no mask that can be read in 'segmentation'; expected run lengths that "
            "fill their image: size (height, width) and counts"
        )
    if tuple(found["size"]) != size:
        raise ZigguratError(
            f"{what} has a mask of {found['size'][0]} x {found['size'][1]} pixels, but its image "
            f"has {size[0]} x {size[1]} (height x width): the results are of other images"
        )
    return found


def _points(what: str, entry: Mapping[str, Any], num_points: int) -> Points:
    values = entry.get("keypoints")
    is_list = isinstance(values, list) and all(_is_number(value) for value in values)
    if not isinstance(values, list) or not is_list or len(values) != 3 * num_points:
        raise ZigguratError(
            f"{what} has keypoints that are not {3 * num_points} finite numbers: x, y and score of "
            f"the {num_points} points of the annotations"
        )
    return np.array(values, dtype=np.float64).reshape(-1, 3)


def _around(points: Points) -> list[float]:
    """Return x, y, width, height of the box around all points."""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def _is_number(value: object) -> TypeGuard[int | float]:
    return type(value) in (int, float) and abs(value) < _TOO_FAR  # type: ignore[arg-type]
