"""What kinds of mistakes a detector makes, and what each costs.

TIDE (Bolya et al., ECCV 2020, arXiv:2008.08115) sorts every false detection, and every object that
no detection found, into one of six kinds, at an IoU of 0.5. What a kind costs is the AP50 that is
gained when its mistakes, and no others, are put right. A detection is tested in this order, that
of the authors' program, and has the first kind that fits:

| kind | IoU with an object | put right by |
|---|---|---|
| localisation | 0.1 to 0.5, of its class | moving it onto the object |
| classification | at least 0.5, of another class | giving it that class |
| duplicate | at least 0.5, of its class, which a better one found | removing it |
| background | below 0.1 with all | removing it |
| both | the others: 0.1 to 0.5, of another class only | removing it |
| missed | an object without a detection, nor one of the first two kinds | not counting it |

A detection that is moved or renamed finds its object only if nothing else does: of several the
surest, the others are removed. Crowds are no mistakes, neither missed nor as false detections.

Shapes: D found and G true objects of an image, N found objects of all images, K classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1
MAX_DETECTIONS = 100
"""Detections of a class in an image that count, as in COCO's AP50."""

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
MEANINGS = {
    "classification": "in place, but of another class",
    "localisation": "of the right class, but out of place (IoU 0.1 to 0.5)",
    "both": "out of place and of another class",
    "duplicate": "an object that was found already",
    "background": "where there is no object",
    "missed": "objects that nothing found",
}
_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(len(KINDS))
_HIT, _IGNORED = -1, -2

NUM_WORST = 12
"""Images that a breakdown remembers as the worst."""


@dataclass(frozen=True)
class ImageObjects:
    """Found and true objects of one image.

    Attributes:
        image_id: Id of the image.
        labels: Class of each found object, 0..K-1.
        scores: Its score.
        true_labels: Class of each true object.
        is_crowd: Whether a true object is a crowd.
        ious: Overlap of each found with each true object; of a crowd, the share of the found one.
    """

    image_id: int
    labels: Int64[np.ndarray, " D"]
    scores: Float[np.ndarray, " D"]
    true_labels: Int64[np.ndarray, " G"]
    is_crowd: Bool[np.ndarray, " G"]
    ious: Float[np.ndarray, "D G"]


@dataclass(frozen=True)
class ErrorKind:
    """One kind of mistake.

    Attributes:
        name: One of `KINDS`.
        count: How often it was made.
        cost: AP50 that would be gained without it, a fraction.
    """

    name: str
    count: int
    cost: float


@dataclass(frozen=True)
class WorstImage:
    """An image with many mistakes.

    Attributes:
        image_id: Its id.
        mistakes: How often each kind was made, of those that were made.
    """

    image_id: int
    mistakes: dict[str, int]


@dataclass(frozen=True)
class ErrorBreakdown:
    """What was wrong, and what it cost.

    Attributes:
        of: "boxes" or "masks".
        ap50: AP50 as it is; NaN without true objects.
        kinds: The six kinds of mistakes.
        threshold: The score at which precision and recall are in balance (the best F1).
        worst: Images with most mistakes at that score, the worst first.
    """

    of: str
    ap50: float
    kinds: tuple[ErrorKind, ...]
    threshold: float
    worst: tuple[WorstImage, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dump` writes."""
        is_counted = not np.isnan(self.ap50)
        return {
            "AP50": self.ap50 if is_counted else None,
            "kinds": {
                kind.name: {"count": kind.count, "AP50_lost": kind.cost if is_counted else None}
                for kind in self.kinds
            },
            "threshold": self.threshold,
            "worst_images": [
                {"image_id": image.image_id, "mistakes": image.mistakes} for image in self.worst
            ],
        }


@dataclass(frozen=True)
class _Sorted:
    """Found objects of one image or of all, and what became of each.

    Attributes:
        image: Position of the image.
        labels: Class of each found object.
        scores: Its score.
        kind: Kind of its mistake, or `_HIT`, or `_IGNORED`.
        target: Number of the true object that was hit, or would be if it were put right; -1.
    """

    image: Int64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    scores: Float[np.ndarray, " N"]
    kind: Int64[np.ndarray, " N"]
    target: Int64[np.ndarray, " N"]


def break_down(images: Iterable[ImageObjects], num_classes: int, *, of: str) -> ErrorBreakdown:
    """Sort all mistakes and count what each kind costs.

    Args:
        images: Found and true objects of each image.
        num_classes: Number of classes K.
        of: What the overlaps are of: "boxes" or "masks".
    """
    ids, parts, true_labels, true_images = [], [], [], []
    num_true = 0
    for position, objects in enumerate(images):
        ids.append(objects.image_id)
        parts.append(_sort_image(objects, position, num_true))
        (real,) = np.nonzero(~objects.is_crowd)
        true_labels.append(objects.true_labels[real])
        true_images.append(np.full(len(real), position))
        num_true += len(real)
    found = _Sorted(
        *(
            np.concatenate([getattr(part, field) for part in parts])
            for field in ("image", "labels", "scores", "kind", "target")
        )
    )
    labels_of_truth = np.concatenate(true_labels)
    totals = np.bincount(labels_of_truth, minlength=num_classes)
    is_missed = _unreached(found, num_true)
    ap50 = _mean_ap(found.labels, found.scores, found.kind == _HIT, found.kind >= _HIT, totals)
    kinds = []
    for number, name in enumerate(KINDS):
        if number == _MISSED:
            amount = int(is_missed.sum())
            left = totals - np.bincount(labels_of_truth[is_missed], minlength=num_classes)
            is_hit, stays = found.kind == _HIT, found.kind >= _HIT
            labels, better = found.labels, left
        else:
            amount = int((found.kind == number).sum())
            labels, is_hit, stays = _put_right(found, number, labels_of_truth)
            better = totals
        value = _mean_ap(labels, found.scores, is_hit, stays, better, counted=totals > 0)
        kinds.append(ErrorKind(name, amount, value - ap50))
    threshold = _best_threshold(found, num_true)
    worst = _worst(found, np.concatenate(true_images), ids, threshold)
    return ErrorBreakdown(of, ap50, tuple(kinds), threshold, worst)


def _sort_image(objects: ImageObjects, position: int, first_true: int) -> _Sorted:
    """Match the objects of an image and say what is wrong with each that hit nothing."""
    order = np.argsort(-objects.scores, kind="stable")
    order = order[_rank_in_class(objects.labels[order]) < MAX_DETECTIONS]
    labels, ious = objects.labels[order], objects.ious[order]
    is_same = labels[:, None] == objects.true_labels
    matched = _match(np.where(is_same, ious, -1.0), objects.is_crowd)
    kind = np.full(len(order), _BACKGROUND)
    target = np.full(len(order), -1)
    (real,) = np.nonzero(~objects.is_crowd)
    if len(real) and len(order):
        same = np.where(is_same, ious, -1.0)[:, real]
        other = np.where(is_same, -1.0, ious)[:, real]
        best_same, best_other = same.max(axis=1), other.max(axis=1)
        is_near = (best_same >= BACKGROUND_IOU) & (best_same < FOREGROUND_IOU)
        # From the last test to the first: the first one that fits has the last word.
        kind[np.maximum(best_same, best_other) >= BACKGROUND_IOU] = _BOTH
        kind[best_same >= FOREGROUND_IOU] = _DUPLICATE
        kind[best_other >= FOREGROUND_IOU] = _CLASSIFICATION
        kind[is_near] = _LOCALISATION
        target = np.where(kind == _CLASSIFICATION, other.argmax(axis=1), target)
        target = np.where(kind == _LOCALISATION, same.argmax(axis=1), target)
    number = np.full(len(objects.is_crowd), -1)
    number[real] = np.arange(len(real))
    is_matched = matched >= 0
    hit = number[matched[is_matched]]
    kind[is_matched] = np.where(hit >= 0, _HIT, _IGNORED)
    target[is_matched] = hit
    target[target >= 0] += first_true
    image = np.full(len(order), position)
    return _Sorted(image, labels, objects.scores[order], kind, target)


def _rank_in_class(labels: Int64[np.ndarray, " D"]) -> Int64[np.ndarray, " D"]:
    """Count how many earlier entries have the same label."""
    order = np.argsort(labels, kind="stable")
    by_label = labels[order]
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.searchsorted(by_label, by_label)
    return rank


def _match(
    ious: Float[np.ndarray, "D G"], is_crowd: Bool[np.ndarray, " G"]
) -> Int64[np.ndarray, " D"]:
    """Give each found object, the surest first, the free true one that it overlaps most.

    As COCO does it: a crowd is taken only where no object is free, and by any number; of equal
    overlaps the last one counts.
    """
    matched = np.full(len(ious), -1)
    is_taken = np.zeros(len(is_crowd), dtype=bool)
    found, true = np.nonzero(ious >= FOREGROUND_IOU)
    candidates: dict[int, list[int]] = {}
    for row, column in zip(found.tolist(), true.tolist(), strict=True):
        candidates.setdefault(row, []).append(column)
    for row, columns in candidates.items():
        free = [column for column in columns if is_crowd[column] or not is_taken[column]]
        if free:
            best = max(free, key=lambda column: (not is_crowd[column], ious[row, column], column))
            matched[row] = best
            is_taken[best] = True
    return matched


def _unreached(found: _Sorted, num_true: int) -> Bool[np.ndarray, " M"]:
    """Mark the true objects that no detection hit, nor would hit if it were put right."""
    is_missed = np.ones(num_true, dtype=bool)
    is_missed[found.target[found.target >= 0]] = False
    return is_missed


def _put_right(
    found: _Sorted, kind: int, labels_of_truth: Int64[np.ndarray, " M"]
) -> tuple[Int64[np.ndarray, " N"], Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Correct the mistakes of one kind.

    Returns:
        Class of each detection, whether it hits, and whether it counts.
    """
    labels, is_hit, stays = found.labels, found.kind == _HIT, found.kind >= _HIT
    (wrong,) = np.nonzero(found.kind == kind)
    stays = stays.copy()
    stays[wrong] = False
    if kind not in (_CLASSIFICATION, _LOCALISATION):
        return labels, is_hit, stays
    is_free = np.ones(len(labels_of_truth), dtype=bool)
    is_free[found.target[is_hit]] = False
    surest_first = wrong[np.argsort(-found.scores[wrong], kind="stable")]
    targets, first = np.unique(found.target[surest_first], return_index=True)
    corrected = surest_first[first[is_free[targets]]]
    labels, is_hit = labels.copy(), is_hit.copy()
    labels[corrected] = labels_of_truth[found.target[corrected]]
    is_hit[corrected] = stays[corrected] = True
    return labels, is_hit, stays


def _mean_ap(
    labels: Int64[np.ndarray, " N"],
    scores: Float[np.ndarray, " N"],
    is_hit: Bool[np.ndarray, " N"],
    counts: Bool[np.ndarray, " N"],
    totals: Int64[np.ndarray, " K"],
    counted: Bool[np.ndarray, " K"] | None = None,
) -> float:
    """Return the mean AP of the classes that have objects.

    Args:
        labels: Class of each detection.
        scores: Its score.
        is_hit: Whether it found an object.
        counts: Whether it counts at all.
        totals: True objects of each class.
        counted: Classes to take the mean of; one without objects has AP 0. None: those with some.
    """
    counted = totals > 0 if counted is None else counted
    (kept,) = np.nonzero(counts)
    kept = kept[np.lexsort((-scores[kept], labels[kept]))]
    bounds = np.searchsorted(labels[kept], np.arange(len(totals) + 1))
    values = [
        average_precision(is_hit[kept[bounds[label] : bounds[label + 1]]], int(totals[label]))
        for label in np.flatnonzero(counted)
    ]
    return float(np.mean(values)) if values else float("nan")


def average_precision(is_hit: Bool[np.ndarray, " n"], total: int) -> float:
    """Return the mean precision at the recalls 0, 0.01, ..., 1, as COCO does.

    Args:
        is_hit: Whether each detection found an object, the surest first.
        total: Number of true objects.
    """
    if not total or not len(is_hit):
        return 0.0
    hits = np.cumsum(is_hit)
    precision = hits / (np.arange(1, len(hits) + 1) + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / total, np.linspace(0, 1, 101), side="left")
    reached = places[places < len(precision)]
    return float(precision[reached].sum() / 101)


def _best_threshold(found: _Sorted, num_true: int) -> float:
    (kept,) = np.nonzero(found.kind >= _HIT)
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    if not len(kept) or not num_true:
        return 0.5
    hits = np.cumsum(found.kind[kept] == _HIT)
    f1 = 2 * hits / (np.arange(1, len(kept) + 1) + num_true)
    # Only the last of equal scores says what a threshold at that score does.
    is_last = np.append(np.diff(found.scores[kept]) != 0, True)
    return float(found.scores[kept][np.where(is_last, f1, -1.0).argmax()])


def _worst(
    found: _Sorted,
    true_images: Int64[np.ndarray, " M"],
    ids: Sequence[int],
    threshold: float,
) -> tuple[WorstImage, ...]:
    """Count the mistakes of each image among what is at least as sure as the threshold."""
    counts = np.zeros((len(ids), len(KINDS)), dtype=np.int64)
    (sure,) = np.nonzero(found.scores >= threshold)
    wrong = sure[found.kind[sure] >= 0]
    np.add.at(counts, (found.image[wrong], found.kind[wrong]), 1)
    is_missed = np.ones(len(true_images), dtype=bool)
    targets = found.target[sure]
    is_missed[targets[targets >= 0]] = False
    np.add.at(counts[:, _MISSED], true_images[is_missed], 1)
    order = np.argsort(-counts.sum(axis=1), kind="stable")[:NUM_WORST]
    return tuple(
        WorstImage(
            ids[position],
            {name: number for name, number in zip(KINDS, row, strict=True) if number},
        )
        for position, row in zip(order.tolist(), counts[order].tolist(), strict=True)
        if any(row)
    )
