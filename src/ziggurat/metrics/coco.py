"""Average precision as COCO defines it, over the images that were evaluated.

The matching is done by hotcoco; the numbers are those of pycocotools to the last digit.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
from jaxtyping import Float

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import ClassRow, Report
from ziggurat.types import Batch, Detections, Result, check_same_length

Rows = Float[np.ndarray, "N 7"]
"""Detections as hotcoco reads them: image id, x, y, width, height, score, category id."""

# Name -> (which array, IoU threshold or None for all ten, area range, detections an image);
# the last two are positions in COCO's (all, small, medium, large) and (1, 10, 100).
_NUMBERS: dict[str, tuple[str, float | None, int, int]] = {
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


class CocoMetric:
    """Counts the twelve COCO numbers and the AP of each class.

    Args:
        annotations: COCO annotation file, or its content.
        category_ids: Category id of each of the K labels; None for a class that the data do not
            know, whose detections are left out.
        classes: Names of the K classes.

    Raises:
        ZigguratError: If the annotations cannot be read.
    """

    primary = "AP"

    def __init__(
        self,
        annotations: Path | Mapping[str, Any],
        category_ids: Sequence[int | None],
        classes: Sequence[str],
    ) -> None:
        check_same_length("CocoMetric", category_ids=category_ids, classes=classes)
        if not any(category is not None for category in category_ids):
            raise ZigguratError(
                "the data and the model share no class, so there is nothing to evaluate: give "
                "data with the classes that the model was trained on"
            )
        self.classes = tuple(classes)
        self.category_ids = tuple(category_ids)
        self._truth = _read_truth(annotations)
        self.reset()

    def reset(self) -> None:
        """Forget all results."""
        self._found: dict[int, Rows] = {}

    def update(self, results: Sequence[Result], batch: Batch) -> None:
        """Add the detections of a batch.

        Args:
            results: Detections, one an image, in pixels of the original image.
            batch: Where the images come from; its `image_id`s are those of the annotations.

        Raises:
            TypeError: If a result holds no detections.
        """
        check_same_length("update", results=results, images=batch.infos)
        for result, info in zip(results, batch.infos, strict=True):
            if not isinstance(result, Detections):
                raise TypeError(f"a COCO metric needs detections, got {type(result)}")
            self._found[info.image_id] = _to_rows(result, info.image_id, self.category_ids)

    def state(self) -> dict[int, Rows]:
        """Return the detections of each image id."""
        return dict(self._found)

    def merge(self, states: Sequence[Mapping[int, Rows]]) -> None:
        """Replace what was collected by the images of all processes."""
        self.reset()
        for state in states:
            self._found.update(state)

    def coco_results(self) -> list[dict[str, Any]]:
        """Return all detections in COCO's result format, by image id and falling score."""
        return [entry for _, rows in sorted(self._found.items()) for entry in _to_json(rows)]

    def compute(self) -> Report:
        """Return the twelve numbers and one row a class.

        Raises:
            ZigguratError: If no image was evaluated.
        """
        if not self._found:
            raise ZigguratError(
                "no image was evaluated, so there is no AP: check that the split has images "
                "that can be decoded"
            )
        image_ids = sorted(self._found)
        known = sorted({category for category in self.category_ids if category is not None})
        arrays = _match(self._truth, np.concatenate(list(self._found.values())), image_ids, known)
        numbers = {name: _mean(_select(arrays, name)) for name in _NUMBERS}
        counts = self._count_objects()
        rows: list[ClassRow] = []
        for name, category in zip(self.classes, self.category_ids, strict=True):
            if category is None:
                continue
            row: ClassRow = {"class": name, "objects": counts.get(category, 0)}
            for number in ("AP", "AP50", "AP75"):
                of_class = _select(arrays, number)[..., known.index(category)]
                value = _mean(of_class)
                row[number] = None if np.isnan(value) else value
            rows.append(row)
        return Report(self.primary, numbers, rows, len(image_ids))

    def _count_objects(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for entry in self._truth["annotations"]:
            if entry["image_id"] in self._found and not entry["iscrowd"]:
                counts[entry["category_id"]] = counts.get(entry["category_id"], 0) + 1
        return counts


def to_coco_json(
    detections: Detections, image_id: int, category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """Turn the detections of one image into entries of COCO's result format.

    Args:
        detections: Objects in pixels of the original image.
        image_id: Id of the image in the annotations.
        category_ids: Category id of each label; objects of a label with None are left out.

    Returns:
        One entry an object with `image_id`, `category_id`, `bbox` (x, y, width, height), `score`.
    """
    return _to_json(_to_rows(detections, image_id, category_ids))


def _to_rows(detections: Detections, image_id: int, category_ids: Sequence[int | None]) -> Rows:
    # float64 from here on: x2 - x1 in float32 would move boxes by up to 1e-4 of a pixel.
    boxes = detections.boxes.detach().double().cpu().numpy()
    scores = detections.scores.detach().double().cpu().numpy()
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ZigguratError(
            f"the model's boxes or scores in image {image_id} are not finite numbers: its "
            "weights are damaged or training has diverged; use an earlier checkpoint"
        )
    categories = [category_ids[label] for label in detections.labels.tolist()]
    keep = [index for index, category in enumerate(categories) if category is not None]
    rows = np.empty((len(keep), 7))
    rows[:, 0] = image_id
    rows[:, 1:3] = boxes[keep, :2]
    rows[:, 3:5] = boxes[keep, 2:] - boxes[keep, :2]
    rows[:, 5] = scores[keep]
    rows[:, 6] = [categories[index] for index in keep]
    return rows


def _to_json(rows: Rows) -> list[dict[str, Any]]:
    return [
        {
            "image_id": int(row[0]),
            "category_id": int(row[6]),
            "bbox": row[1:5].tolist(),
            "score": float(row[5]),
        }
        for row in rows[np.argsort(-rows[:, 5], kind="stable")]
    ]


def _read_truth(annotations: Path | Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Keep of an annotation file what the evaluation of boxes reads.

    Raises:
        ZigguratError: If it cannot be read or lacks what is needed.
    """
    name, content = "the annotations", annotations
    if isinstance(content, Path):
        name = str(content)
        try:
            content = json.loads(content.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ZigguratError(
                f"{name} cannot be read as a COCO annotation file ({error}): give a JSON file "
                "with images, annotations and categories"
            ) from error
    try:
        return _keep_boxes(content)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ZigguratError(
            f"{name} has no COCO layout ({type(error).__name__}: {error}): expected images, "
            "annotations with image_id, category_id and bbox, and categories; `ziggurat data "
            "check` names every fault"
        ) from error


def _keep_boxes(content: Any) -> dict[str, list[dict[str, Any]]]:  # noqa: ANN401  any JSON
    # Ids are counted anew from 1: the evaluation takes an object with the id 0 for "not matched",
    # and nothing else depends on them.
    objects = [
        {
            "id": number,
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "bbox": entry["bbox"],
            "area": entry.get("area", entry["bbox"][2] * entry["bbox"][3]),
            "iscrowd": int(entry.get("iscrowd", 0)),
        }
        for number, entry in enumerate(content["annotations"], start=1)
    ]
    images = [{"id": entry["id"]} for entry in content["images"]]
    categories = [{"id": entry["id"], "name": entry["name"]} for entry in content["categories"]]
    return {"images": images, "annotations": objects, "categories": categories}


def _match(
    truth: dict[str, list[dict[str, Any]]],
    found: Rows,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> dict[str, np.ndarray]:
    """Match found with true objects.

    Returns:
        "precision" (T, R, K, A, M) and "recall" (T, K, A, M) at T IoU thresholds and R recalls
        for K categories, A area ranges and M limits of detections an image; -1 without truth.
    """
    true_objects = hotcoco.COCO(truth)
    evaluation = hotcoco.COCOeval(
        true_objects, true_objects.load_res(found if len(found) else []), "bbox"
    )
    evaluation.params.img_ids = list(image_ids)
    evaluation.params.cat_ids = list(category_ids)
    evaluation.evaluate()
    evaluation.accumulate()
    arrays = evaluation.eval
    assert arrays is not None  # it was accumulated
    thresholds = np.asarray(evaluation.params.iou_thrs)
    return {
        "precision": arrays["precision"],
        "recall": arrays["recall"],
        "thresholds": thresholds,
    }


def _select(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Values that a number is the mean of; the last axis is the category."""
    which, threshold, area, limit = _NUMBERS[name]
    values = arrays[which]
    if threshold is not None:
        values = values[np.isclose(arrays["thresholds"], threshold)]
    return values[..., area, limit]


def _mean(values: np.ndarray) -> float:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else float("nan")
