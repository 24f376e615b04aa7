"""The COCO numbers: twelve of boxes or of masks, ten of keypoints.

The matching is done by hotcoco; the numbers are those of pycocotools to the last digit. The size
of a found object, for the numbers of small, medium and large ones, is that of its mask where masks
are evaluated, as officially (pycocotools takes that of its box where a results file has both), and
that of the box around its points where keypoints are.

Keypoints overlap by COCO's object keypoint similarity: the mean of exp(-d^2 / (2 s k^2)) over the
labelled points, d being a point's distance from the truth, s the object's area and k twice the
point's sigma. Objects without a labelled point need not be found, like crowds.

Ids of images may be any whole numbers, those of categories any that a float64 holds. hotcoco reads
neither negative ones nor long ones: it is given numbers from 1 on instead, in the order of the ids.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import hotcoco
import numpy as np
from hotcoco import mask as coco_mask
from jaxtyping import Float

from ziggurat.metrics.coco_truth import CocoTruth

Kind = Literal["boxes", "masks", "keypoints"]
Rows = Float[np.ndarray, "N 7"]
"""Found objects as hotcoco lays them out: number of the image, which is 0 until those of all images
are counted together, x, y, width, height, score, category id."""

# Name -> (which array, IoU threshold or None for all ten, area range, detections an image);
# the last two are positions in COCO's (all, small, medium, large) and (1, 10, 100).
NUMBERS: dict[str, tuple[str, float | None, int, int]] = {
    "AP": ("precision", None, 0, 2),
    "AP50": ("precision", 0.5, 0, 2),
    "AP75": ("precision", 0.75, 0, 2),
    "AP_small": ("precision", None, 1, 2),
    "AP_medium": ("precision", None, 2, 2),
    "AP_large": ("precision", None, 3, 2),
    "AR_1": ("recall", None, 0, 0),
    "AR_10": ("recall", None, 0, 1),
    "AR_100": ("recall", None, 0, 2),
    "AR_small": ("recall", None, 1, 2),
    "AR_medium": ("recall", None, 2, 2),
    "AR_large": ("recall", None, 3, 2),
}
KEYPOINT_NUMBERS: dict[str, tuple[str, float | None, int, int]] = {
    "AP": ("precision", None, 0, 0),
    "AP50": ("precision", 0.5, 0, 0),
    "AP75": ("precision", 0.75, 0, 0),
    "AP_medium": ("precision", None, 1, 0),
    "AP_large": ("precision", None, 2, 0),
    "AR": ("recall", None, 0, 0),
    "AR50": ("recall", 0.5, 0, 0),
    "AR75": ("recall", 0.75, 0, 0),
    "AR_medium": ("recall", None, 1, 0),
    "AR_large": ("recall", None, 2, 0),
}
"""Likewise of keypoints, where the area ranges are (all, medium, large) and the limit is 20."""
SIZES: dict[str, tuple[float, float]] = {
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Areas in pixels, both ends included, as COCO has them."""


@dataclass(frozen=True)
class FoundObjects:
    """What was found in one image.

    Attributes:
        rows: Boxes, scores and categories of N objects.
        masks: Compressed run lengths of their masks; empty where only boxes are evaluated.
        size: Height and width of the masks.
        points: x, y in COCO's pixels and score of their keypoints; None where there are none.
    """

    rows: Rows
    masks: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    points: Float[np.ndarray, "N P 3"] | None = None

    def run_lengths(self) -> list[dict[str, Any]]:
        """Return the masks as hotcoco and COCO's result format have them."""
        return [{"size": list(self.size), "counts": counts} for counts in self.masks]


@dataclass(frozen=True)
class CocoArrays:
    """All precisions and recalls of an evaluation.

    Attributes:
        precision: (T, R, K, A, M): T IoU thresholds, R recalls, K categories, A area ranges and M
            limits of detections an image; -1 without truth.
        recall: (T, K, A, M).
        thresholds: The T thresholds of the overlap.
        numbers: What can be asked for.
    """

    precision: Float[np.ndarray, "T R K A M"]
    recall: Float[np.ndarray, "T K A M"]
    thresholds: Float[np.ndarray, " T"]
    numbers: Mapping[str, tuple[str, float | None, int, int]]

    def value(self, name: str, category: int | None = None) -> float:
        """Return a number, of all categories or of one; NaN where there is nothing to count.

        Args:
            name: One of `numbers`.
            category: Position of the category.
        """
        which, threshold, area, limit = self.numbers[name]
        values = self.precision if which == "precision" else self.recall
        values = values[..., area, limit]  # views up to here: cheap with a thousand categories
        if category is not None:
            values = values[..., category]
        if threshold is not None:
            values = values[np.isclose(self.thresholds, threshold)]
        counted = values[values > -1]
        return float(counted.mean()) if counted.size else float("nan")


def count(
    truth: CocoTruth,
    found: Mapping[int, FoundObjects],
    category_ids: Sequence[int],
    kind: Kind,
) -> CocoArrays:
    """Match found with true objects.

    Args:
        truth: True objects.
        found: What was found in each image that is evaluated, by image id.
        category_ids: The categories that count.
        kind: What is compared.
    """
    images = _numbers(
        (image["id"] for image in truth.images),
        (entry["image_id"] for entry in truth.objects),
        found,
    )
    categories = _numbers(
        (entry["id"] for entry in truth.categories),
        (entry["category_id"] for entry in truth.objects),
        category_ids,
    )
    true_objects = hotcoco.COCO(_numbered(truth, images, categories))
    rows = np.concatenate([objects.rows for objects in found.values()])
    rows[:, 0] = np.repeat(
        [images[image_id] for image_id in found], [len(objects.rows) for objects in found.values()]
    )
    rows[:, 6] = np.searchsorted(list(categories), rows[:, 6]) + 1  # their ids are in rising order
    if not len(rows):
        results = true_objects.load_res([])
    elif kind == "keypoints":
        results = true_objects.load_res(_with_points(rows, found.values()))
    elif kind == "boxes":
        results = true_objects.load_res(rows)
    else:
        masks = [mask for objects in found.values() for mask in objects.run_lengths()]
        # Sizes are taken from the boxes of rows: one pixel high, they have the areas of the masks.
        rows[:, 1:5] = [0, 0, 0, 1]
        rows[:, 3] = coco_mask.area(masks)
        results = true_objects.load_res(rows, segmentation=[*masks])
    names: dict[Kind, str] = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}
    evaluation = hotcoco.COCOeval(true_objects, results, names[kind])
    if kind == "keypoints":
        evaluation.params.kpt_oks_sigmas = list(truth.sigmas)
    evaluation.params.img_ids = sorted(images[image_id] for image_id in found)
    evaluation.params.cat_ids = [categories[category] for category in category_ids]
    evaluation.evaluate()
    evaluation.accumulate()
    arrays = evaluation.eval
    assert arrays is not None  # it was accumulated
    thresholds = np.asarray(evaluation.params.iou_thrs)
    numbers = KEYPOINT_NUMBERS if kind == "keypoints" else NUMBERS
    return CocoArrays(arrays["precision"], arrays["recall"], thresholds, numbers)


def _numbers(*ids: Iterable[int]) -> dict[int, int]:
    """Number ids from 1 on, in rising order."""
    distinct = {one for part in ids for one in part}
    return {one: number for number, one in enumerate(sorted(distinct), start=1)}


def _numbered(
    truth: CocoTruth, images: Mapping[int, int], categories: Mapping[int, int]
) -> dict[str, Any]:
    """Return the content of an annotation file with numbers in place of ids."""
    objects = [
        entry
        | {
            "image_id": images[entry["image_id"]],
            "category_id": categories[entry["category_id"]],
        }
        for entry in truth.objects
    ]
    return {
        "images": [image | {"id": images[image["id"]]} for image in truth.images],
        "annotations": objects,
        "categories": [entry | {"id": categories[entry["id"]]} for entry in truth.categories],
    }


def _with_points(rows: Rows, found: Iterable[FoundObjects]) -> list[dict[str, Any]]:
    """Return what counts of the found objects of all images: their points, without their boxes."""
    all_points = (
        points for objects in found if objects.points is not None for points in objects.points
    )
    return [
        {
            "image_id": int(row[0]),
            "category_id": int(row[6]),
            "score": float(row[5]),
            "keypoints": points.ravel().tolist(),
        }
        for row, points in zip(rows, all_points, strict=True)
    ]
