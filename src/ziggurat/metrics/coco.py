"""Average precision as COCO defines it, of boxes, masks and keypoints, over the images evaluated.

Masks are kept as run lengths, made from their windows as the results arrive: never is there a mask
of a whole image.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import ClassRow, Report
from ziggurat.metrics.cityscapes import cityscapes_report
from ziggurat.metrics.coco_counts import SIZES, CocoArrays, FoundObjects, Kind, count
from ziggurat.metrics.coco_truth import CocoTruth, read_truth
from ziggurat.metrics.errors import ErrorBreakdown, ImageObjects, break_down
from ziggurat.metrics.voc import voc_report
from ziggurat.ops.run_lengths import encode_masks
from ziggurat.ops.skeletons import PIXEL_CENTRE
from ziggurat.types import Batch, Detections, Result, check_same_length

PREFIXES: dict[Kind, str] = {"boxes": "", "masks": "mask_", "keypoints": "keypoint_"}
"""What the names of the numbers begin with."""


class CocoMetric:
    """Counts the COCO numbers and the AP of each class, for boxes, masks and keypoints.

    Args:
        truth: What is true, with the masks and keypoints that are evaluated; or a COCO annotation
            file, or its content, that says it.
        category_ids: Category id of each of the K labels; None for a class that the data do not
            know, whose detections are left out.
        classes: Names of the K classes.
        with_masks: Whether masks are evaluated, too; their numbers are called "mask_AP" and so on,
            and "mask_AP" is the primary one.
        with_keypoints: Likewise for keypoints, called "keypoint_AP" and so on.

    Attributes:
        truth: True objects.
        found: What was found, by image id.

    Raises:
        ZigguratError: If the annotations cannot be read.
    """

    def __init__(
        self,
        truth: CocoTruth | Path | Mapping[str, Any],
        category_ids: Sequence[int | None],
        classes: Sequence[str],
        *,
        with_masks: bool = False,
        with_keypoints: bool = False,
    ) -> None:
        check_same_length("CocoMetric", category_ids=category_ids, classes=classes)
        if not any(category is not None for category in category_ids):
            raise ZigguratError(
                "the data and the model share no class, so there is nothing to evaluate: give "
                "data with the classes that the model was trained on"
            )
        self.classes = tuple(classes)
        self.category_ids = tuple(category_ids)
        more: dict[Kind, bool] = {"masks": with_masks, "keypoints": with_keypoints}
        self.kinds: tuple[Kind, ...] = ("boxes", *(kind for kind in more if more[kind]))
        self.primary = f"{PREFIXES[self.kinds[-1]]}AP"
        if not isinstance(truth, CocoTruth):
            truth = read_truth(truth, with_masks=with_masks, with_keypoints=with_keypoints)
        self.truth = truth
        self.reset()

    def reset(self) -> None:
        """Forget all results."""
        self.found: dict[int, FoundObjects] = {}

    def update(self, results: Sequence[Result], batch: Batch) -> None:
        """Add the detections of a batch.

        Args:
            results: Detections, one an image, in pixels of the original image.
            batch: Where the images come from; its `image_id`s are those of the annotations.

        Raises:
            TypeError: If a result holds no detections, or no masks or keypoints where those are
                evaluated.
        """
        check_same_length("update", results=results, images=batch.infos)
        for result, info in zip(results, batch.infos, strict=True):
            if not isinstance(result, Detections):
                raise TypeError(f"a COCO metric needs detections, got {type(result)}")
            parts: dict[Kind, object] = {"masks": result.masks, "keypoints": result.keypoints}
            for kind in self.kinds[1:]:
                if parts[kind] is None:
                    raise TypeError(f"a COCO metric of {kind} needs {kind}, got detections without")
            wanted = replace(
                result,
                masks=result.masks if "masks" in self.kinds else None,
                keypoints=result.keypoints if "keypoints" in self.kinds else None,
            )
            self.found[info.image_id] = _to_objects(wanted, info.image_id, self.category_ids)

    def state(self) -> dict[int, FoundObjects]:
        """Return what was found in each image id."""
        return dict(self.found)

    def merge(self, states: Sequence[Mapping[int, FoundObjects]]) -> None:
        """Replace what was collected by the images of all processes."""
        self.reset()
        for state in states:
            self.found.update(state)

    def coco_results(self) -> list[dict[str, Any]]:
        """Return all detections in COCO's result format, by image id and falling score."""
        return [
            entry
            for image_id, objects in sorted(self.found.items())
            for entry in _to_json(objects, image_id)
        ]

    def compute(self) -> Report:
        """Return the numbers, one row a class and one row a size.

        Raises:
            ZigguratError: If no image was evaluated.
        """
        if not self.found:
            raise ZigguratError(
                "no image was evaluated, so there is no AP: check that the split has images "
                "that can be decoded"
            )
        return count_report(self.truth, self.found, self.category_ids, self.classes, self.kinds)

    def compute_voc(self) -> Report:
        """Return Pascal VOC's average precision of the boxes instead of COCO's numbers."""
        return voc_report(self.truth, self.found, self.category_ids, self.classes)

    def compute_cityscapes(self) -> Report:
        """Return Cityscapes' average precision of the masks instead of COCO's numbers."""
        return cityscapes_report(self.truth, self.found, self.category_ids, self.classes)

    def errors(self) -> tuple[ErrorBreakdown, ...]:
        """Sort the mistakes of boxes and, where they are evaluated, of masks."""
        return count_errors(self.truth, self.found, self.category_ids, self.kinds)


def count_report(
    truth: CocoTruth,
    found: Mapping[int, FoundObjects],
    category_ids: Sequence[int | None],
    classes: Sequence[str],
    kinds: Sequence[Kind],
) -> Report:
    """Count what was found against the truth.

    Args:
        truth: True objects.
        found: What was found in each image that is evaluated, by image id.
        category_ids: Category id of each class; None for one that the data do not know.
        classes: Names of the classes.
        kinds: What is compared; the last one is the primary.
    """
    known = _known(category_ids)
    counted: dict[Kind, CocoArrays] = {kind: count(truth, found, known, kind) for kind in kinds}
    objects = [
        entry
        for entry in truth.objects
        if entry["image_id"] in found and not entry["iscrowd"] and entry["category_id"] in known
    ]
    amounts = Counter(entry["category_id"] for entry in objects)
    rows: list[ClassRow] = []
    for name, category in zip(classes, category_ids, strict=True):
        if category is None:
            continue
        row: ClassRow = {"class": name, "objects": amounts[category]}
        for kind, arrays in counted.items():
            for key in ("AP", "AP50", "AP75"):
                row[PREFIXES[kind] + key] = _or_none(arrays.value(key, known.index(category)))
        rows.append(row)
    per_size: list[ClassRow] = []
    for size, (low, high) in SIZES.items():
        number = sum(low <= entry["area"] <= high for entry in objects)
        row = {"size": size, "objects": number}
        for kind, arrays in counted.items():
            for key in ("AP", "AR"):
                is_counted = f"{key}_{size}" in arrays.numbers  # small objects have no keypoints
                value = arrays.value(f"{key}_{size}") if is_counted else np.nan
                row[PREFIXES[kind] + key] = _or_none(value)
        per_size.append(row)
    numbers = {
        PREFIXES[kind] + key: arrays.value(key)
        for kind, arrays in counted.items()
        for key in arrays.numbers
    }
    return Report(f"{PREFIXES[kinds[-1]]}AP", numbers, rows, len(found), per_size=per_size)


def count_errors(
    truth: CocoTruth,
    found: Mapping[int, FoundObjects],
    category_ids: Sequence[int | None],
    kinds: Sequence[Kind],
) -> tuple[ErrorBreakdown, ...]:
    """Sort the mistakes of boxes and masks, a breakdown each; arguments as of `count_report`."""
    known = _known(category_ids)
    return tuple(
        break_down(_images(truth, found, known, kind), len(known), of=kind)
        for kind in kinds
        if kind != "keypoints"  # the six kinds of mistakes are told apart by overlaps of areas
    )


def _images(
    truth: CocoTruth, found: Mapping[int, FoundObjects], known: Sequence[int], kind: Kind
) -> Iterator[ImageObjects]:
    for image_id, objects in sorted(found.items()):
        true = truth.by_image[image_id]
        (counted,) = np.nonzero(np.isin(true.category_ids, known))
        crowd = true.is_crowd[counted]
        ious = np.zeros((len(objects.rows), len(counted)))
        if ious.size and kind == "boxes":
            ious = coco_mask.bbox_iou(objects.rows[:, 1:5], true.boxes[counted], crowd)
        elif ious.size:
            masks = [true.masks[number] for number in counted.tolist()]
            ious = coco_mask.iou(objects.run_lengths(), masks, crowd)
        yield ImageObjects(
            image_id=image_id,
            labels=np.searchsorted(known, objects.rows[:, 6].astype(np.int64)),
            scores=objects.rows[:, 5],
            true_labels=np.searchsorted(known, true.category_ids[counted]),
            is_crowd=crowd,
            ious=ious,
        )


def to_coco_json(
    detections: Detections, image_id: int, category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """Turn the detections of one image into entries of COCO's result format.

    Args:
        detections: Objects in pixels of the original image.
        image_id: Id of the image in the annotations.
        category_ids: Category id of each label; objects of a label with None are left out.

    Returns:
        One entry an object with `image_id`, `category_id`, `bbox` (x, y, width, height), `score`
        and, where there are masks, `segmentation` (compressed run lengths), where there are
        keypoints, `keypoints` (x, y, score of each).
    """
    return _to_json(_to_objects(detections, image_id, category_ids), image_id)


def _to_objects(
    detections: Detections, image_id: int, category_ids: Sequence[int | None]
) -> FoundObjects:
    # float64 from here on: x2 - x1 in float32 would move boxes by up to 1e-4 of a pixel. On the CPU
    # before that: Apple's MPS has none.
    boxes = detections.boxes.detach().cpu().double().numpy()
    scores = detections.scores.detach().cpu().double().numpy()
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ZigguratError(
            f"the model's boxes or scores in image {image_id} are not finite numbers: its "
            "weights are damaged or training has diverged; use an earlier checkpoint"
        )
    categories = [category_ids[label] for label in detections.labels.tolist()]
    keep = [index for index, category in enumerate(categories) if category is not None]
    rows = np.zeros((len(keep), 7))
    rows[:, 1:3] = boxes[keep, :2]
    rows[:, 3:5] = boxes[keep, 2:] - boxes[keep, :2]
    rows[:, 5] = scores[keep]
    rows[:, 6] = [categories[index] for index in keep]
    points = None
    if detections.keypoints is not None:
        points = detections.keypoints.points.detach().cpu().double().numpy()[keep]
        points = points - [PIXEL_CENTRE, PIXEL_CENTRE, 0]
    if detections.masks is None:
        return FoundObjects(rows, points=points)
    texts = encode_masks(detections.masks)
    return FoundObjects(rows, tuple(texts[index] for index in keep), detections.masks.size, points)


def _to_json(objects: FoundObjects, image_id: int) -> list[dict[str, Any]]:
    rows, masks = objects.rows, objects.run_lengths()
    entries = []
    for number in np.argsort(-rows[:, 5], kind="stable").tolist():
        row = rows[number]
        entry: dict[str, Any] = {
            "image_id": image_id,
            "category_id": int(row[6]),
            "bbox": row[1:5].tolist(),
            "score": float(row[5]),
        }
        if masks:
            entry["segmentation"] = masks[number]
        if objects.points is not None:
            entry["keypoints"] = objects.points[number].ravel().tolist()
        entries.append(entry)
    return entries


def _known(category_ids: Sequence[int | None]) -> list[int]:
    return sorted({category for category in category_ids if category is not None})


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
