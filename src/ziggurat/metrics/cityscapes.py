"""Average precision of masks as the Cityscapes benchmark defines it (Cordts et al., CVPR 2016).

The rules are those of cityscapesScripts 2.3, in which they differ from COCO's:

- A found and a true object match where their IoU is above, not at, the threshold. All that match
  one true object count: the surest as a hit, every other as wrong.
- Objects below 100 pixels, and crowds, need not be found. What was found and matches nothing is
  wrong, unless the share of its pixels on crowds of its class, on such small objects and on what
  the benchmark ignores is above the threshold, too. A crowd below 100 pixels counts twice there.
- All found objects of an image count. Those of one score come at once, and the curve of precision
  over recall is summed with the mean of the steps at both sides of each point, precisions as
  they are.

"Cityscapes_AP" is the mean over the IoU thresholds 0.5, 0.55, ..., 0.95 and over the classes that
have objects, "Cityscapes_AP50" that of the first threshold. The numbers that depend on distances
need files of depth and are not counted.

Shapes: P found and G true objects of a class in an image, T thresholds, n found objects that count.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask
from jaxtyping import Bool, Float, Int64

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import ClassRow, Report
from ziggurat.metrics.coco_counts import FoundObjects
from ziggurat.metrics.coco_truth import CocoTruth

MIN_PIXELS = 100
THRESHOLDS = np.arange(0.5, 1.0, 0.05)


@dataclass(frozen=True)
class _Pairs:
    """Found and true objects of one class in one image.

    Attributes:
        scores: How sure each found object is.
        ious: Overlap of each found with each true object.
        ignored: Share of each found object's pixels that need not be an object.
        is_counted: Whether a true object has to be found.
    """

    scores: Float[np.ndarray, " P"]
    ious: Float[np.ndarray, "P G"]
    ignored: Float[np.ndarray, " P"]
    is_counted: Bool[np.ndarray, " G"]


def cityscapes_report(
    truth: CocoTruth,
    found: Mapping[int, FoundObjects],
    category_ids: Sequence[int | None],
    classes: Sequence[str],
) -> Report:
    """Count the masks that were found against the truth by the rules of Cityscapes.

    Args:
        truth: True objects, with masks.
        found: What was found in each image that is evaluated, by image id, with masks.
        category_ids: Category id of each class; None for one that the data do not know.
        classes: Names of the classes.

    Raises:
        ZigguratError: If no image was evaluated, or there are no masks.
    """
    if not truth.has_masks:
        raise ZigguratError(
            "the rules of Cityscapes are about masks, and boxes alone were found; evaluate by "
            "those of COCO or Pascal VOC"
        )
    if not found:
        raise ZigguratError(
            "no image was evaluated, so there is no AP: check that the split has images that can "
            "be decoded"
        )
    of_class: defaultdict[int, list[_Pairs]] = defaultdict(list)
    for image_id, objects in sorted(found.items()):
        for found_category, pairs in _pairs(truth, image_id, objects):
            of_class[found_category].append(pairs)
    rows: list[ClassRow] = []
    for name, category in zip(classes, category_ids, strict=True):
        if category is None:
            continue
        total = sum(int(pairs.is_counted.sum()) for pairs in of_class[category])
        row: ClassRow = {"class": name, "objects": total}
        row |= dict.fromkeys(("Cityscapes_AP", "Cityscapes_AP50"))
        if total:
            values = [_average_precision(of_class[category], limit) for limit in THRESHOLDS]
            row |= {"Cityscapes_AP": float(np.mean(values)), "Cityscapes_AP50": values[0]}
        rows.append(row)
    numbers = {}
    for key in ("Cityscapes_AP", "Cityscapes_AP50"):
        known = [value for row in rows if isinstance(value := row[key], float)]
        numbers[key] = float(np.mean(known)) if known else float("nan")
    return Report("Cityscapes_AP", numbers, rows, len(found))


def _pairs(truth: CocoTruth, image_id: int, objects: FoundObjects) -> Iterator[tuple[int, _Pairs]]:
    """Compare what was found in an image with what is there.

    Yields:
        Category id and pairs of each class.
    """
    true = truth.by_image[image_id]
    masks = objects.run_lengths()
    pixels = np.asarray(coco_mask.area(masks) if masks else [], dtype=np.int64)
    categories = objects.rows[:, 6].astype(np.int64)
    for category in np.union1d(categories, true.category_ids).tolist():
        (mine,) = np.nonzero((categories == category) & (pixels > 0))
        (there,) = np.nonzero(true.category_ids == category)
        own = [masks[number] for number in mine.tolist()]
        true_masks = [true.masks[number] for number in there.tolist()]
        areas = pixels[mine]
        true_areas = np.asarray(coco_mask.area(true_masks) if true_masks else [], dtype=np.int64)
        common = _common(own, areas, true_masks)
        is_crowd, is_small = true.is_crowd[there], true_areas < MIN_PIXELS
        ignored = (common * (is_crowd.astype(np.int64) + is_small)).sum(axis=1)
        nobodys = truth.ignored.get(image_id)
        if nobodys is not None:
            ignored += _common(own, areas, [nobodys])[:, 0]
        yield (
            category,
            _Pairs(
                scores=objects.rows[mine, 5],
                ious=common / (areas[:, None] + true_areas - common),
                ignored=ignored / areas,
                is_counted=~is_crowd & ~is_small,
            ),
        )


def _common(
    found: list[dict[str, Any]], areas: Int64[np.ndarray, " P"], others: list[dict[str, Any]]
) -> Int64[np.ndarray, "P G"]:
    """Count the pixels that masks have in common."""
    if not found or not others:
        return np.zeros((len(found), len(others)), dtype=np.int64)
    # For crowds COCO divides by the pixels of the found object.
    shares = coco_mask.iou(found, others, np.ones(len(others), dtype=bool))
    return np.rint(np.asarray(shares) * areas[:, None]).astype(np.int64)


def _average_precision(images: Sequence[_Pairs], limit: float) -> float:
    """Sum the curve of a class that has objects, at one threshold."""
    hits, wrong = [np.zeros(0)], [np.zeros(0)]
    num_missed = 0
    for pairs in images:
        is_match = pairs.ious > limit
        counted = np.where(is_match, pairs.scores[:, None], -np.inf)[:, pairs.is_counted]
        ranked = -np.sort(-counted, axis=0)  # the surest match of each object first
        best, others = ranked[:1].ravel(), ranked[1:].ravel()
        hits.append(best[best > -np.inf])
        num_missed += int(pairs.is_counted.sum()) - len(hits[-1])
        wrong += [
            others[others > -np.inf],
            pairs.scores[~is_match.any(axis=1) & (pairs.ignored <= limit)],
        ]
    return _area(np.concatenate(hits), np.concatenate(wrong), num_missed)


def _area(hits: Float[np.ndarray, " _"], wrong: Float[np.ndarray, " _"], num_missed: int) -> float:
    """Sum precision over recall.

    Args:
        hits: Score of each hit.
        wrong: Score of each found object that is none.
        num_missed: Objects without a hit.
    """
    limits = np.unique(np.concatenate([hits, wrong]))
    num_hits, num_wrong = (
        len(scores) - np.searchsorted(np.sort(scores), limits) for scores in (hits, wrong)
    )
    # The last point, where nothing is sure enough, has precision 1 and recall 0.
    precision = np.append(num_hits / (num_hits + num_wrong), 1.0)
    recall = np.append(num_hits / (len(hits) + num_missed), 0.0)
    before, after = np.append(recall[:1], recall[:-1]), np.append(recall[1:], 0.0)
    return float(np.dot(precision, (before - after) / 2))
