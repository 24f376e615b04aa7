"""Average precision as Pascal VOC defines it (Everingham et al., IJCV 2010), at an IoU of 0.5.

Differences from COCO's AP50: a detection counts against the object that it overlaps most, whether
that was found already or not; objects that are marked difficult, and crowds, need not be found, and
detections on them do not count; all detections of an image count.

Two ways to sum up a curve of precision over recall: since 2010 the area below it ("VOC_AP"), in
2007 the mean of the best precisions from the recalls 0, 0.1, ..., 1 on ("VOC07_AP").

VOC's own boxes include their last pixel: xmin..xmax there is xmin - 1 to xmax here, and overlaps
are equal then.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from hotcoco import mask as coco_mask
from jaxtyping import Bool, Float, Int64

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import ClassRow, Report
from ziggurat.metrics.coco_counts import FoundObjects
from ziggurat.metrics.coco_truth import CocoTruth

MIN_IOU = 0.5
_IGNORED, _WRONG, _HIT = -1, 0, 1


def voc_report(
    truth: CocoTruth,
    found: Mapping[int, FoundObjects],
    category_ids: Sequence[int | None],
    classes: Sequence[str],
) -> Report:
    """Count what was found against the truth by the rules of Pascal VOC.

    Args:
        truth: True objects.
        found: What was found in each image that is evaluated, by image id.
        category_ids: Category id of each class; None for one that the data do not know.
        classes: Names of the classes.

    Raises:
        ZigguratError: If no image was evaluated.
    """
    if not found:
        raise ZigguratError(
            "no image was evaluated, so there is no AP: check that the split has images that can "
            "be decoded"
        )
    scores, labels, outcomes, counted = [], [], [], []
    for image_id, objects in sorted(found.items()):
        true = truth.by_image[image_id]
        need_not = true.is_difficult | true.is_crowd
        counted.append(true.category_ids[~need_not])
        scores.append(objects.rows[:, 5])
        labels.append(objects.rows[:, 6].astype(np.int64))
        outcomes.append(_match(objects, true.boxes, true.category_ids, need_not))
    score, label, outcome = (np.concatenate(parts) for parts in (scores, labels, outcomes))
    rows: list[ClassRow] = []
    true_labels = np.concatenate(counted)
    for name, category in zip(classes, category_ids, strict=True):
        if category is None:
            continue
        (mine,) = np.nonzero((label == category) & (outcome != _IGNORED))
        mine = mine[np.argsort(-score[mine], kind="stable")]
        total = int((true_labels == category).sum())
        area, eleven = average_precisions(outcome[mine] == _HIT, total)
        rows.append({"class": name, "objects": total, "VOC_AP": area, "VOC07_AP": eleven})
    numbers = {key: _mean([row[key] for row in rows]) for key in ("VOC_AP", "VOC07_AP")}
    return Report("VOC_AP", numbers, rows, len(found))


def average_precisions(
    is_hit: Bool[np.ndarray, " n"], total: int
) -> tuple[float | None, float | None]:
    """Return the area below the curve and the mean of eleven precisions; None without objects.

    Args:
        is_hit: Whether each detection found an object, the surest first.
        total: Number of true objects.
    """
    if not total:
        return None, None
    hits = np.cumsum(is_hit)
    recall = hits / total
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    area = float((np.diff(recall, prepend=0.0) * best).sum())
    # In elevenths of ten: 0.1 * 3 is a little more than 3 / 10.
    reached = [int(np.searchsorted(10 * hits, tenth * total)) for tenth in range(11)]
    eleven = sum(float(best[place]) for place in reached if place < len(best)) / 11
    return area, eleven


def _match(
    found: FoundObjects,
    true_boxes: Float[np.ndarray, "G 4"],
    true_categories: Int64[np.ndarray, " G"],
    need_not: Bool[np.ndarray, " G"],
) -> Int64[np.ndarray, " D"]:
    """Say of each found object whether it is a hit, wrong, or not to be counted."""
    outcome = np.full(len(found.rows), _WRONG)
    if not len(found.rows) or not len(true_boxes):
        return outcome
    ious = coco_mask.bbox_iou(found.rows[:, 1:5], true_boxes, np.zeros(len(true_boxes), dtype=bool))
    is_same = found.rows[:, 6, None] == true_categories
    ious = np.where(is_same, ious, -1.0)
    best = ious.argmax(axis=1)
    is_taken = np.zeros(len(true_boxes), dtype=bool)
    for number in np.argsort(-found.rows[:, 5], kind="stable").tolist():
        target = int(best[number])
        if ious[number, target] < MIN_IOU:
            continue
        if need_not[target]:
            outcome[number] = _IGNORED
        elif not is_taken[target]:
            is_taken[target] = True
            outcome[number] = _HIT
    return outcome


def _mean(values: Sequence[str | int | float | None]) -> float:
    numbers = [value for value in values if isinstance(value, float)]
    return float(np.mean(numbers)) if numbers else float("nan")
