"""Intersection over union of label maps: mIoU as it is published, in both of its conventions.

All pixels of all images go into one confusion matrix, from which every number follows; a second
one, of what is near contours, gives Boundary IoU. That makes the numbers of many processes exact,
since matrices of integers add up.

Counting is one pass: the labels of truth and prediction, both below 256, make one number of 16
bits, and a histogram of those holds every pair, the unlabelled pixels and whatever is no class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, Integer, UInt8
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import ClassRow, Report
from ziggurat.metrics.boundaries import boundary_distance, near_boundary
from ziggurat.types import UNLABELLED, Batch, LabelMap, Result, check_same_length

_LEVELS = 256


@dataclass(frozen=True)
class ImageScore:
    """How well the label map of one image was predicted.

    Attributes:
        image_id: Number of the image in its data set.
        path: File of the image.
        pixels: Pixels that somebody labelled.
        wrong: Those of them that were given another class.
        iou: Mean intersection over union of the classes that are in its truth or prediction, or
            None where nothing is labelled.
    """

    image_id: int
    path: str
    pixels: int
    wrong: int
    iou: float | None

    @property
    def share_wrong(self) -> float:
        """Share of the labelled pixels that were given another class."""
        return self.wrong / self.pixels if self.pixels else 0.0


@dataclass(frozen=True)
class SegmentationState:
    """What one process counted.

    Attributes:
        confusion: Pixels of true class (row) by predicted class (column).
        boundary: Pixels near a contour of each class: in truth and prediction alike, in the truth,
            in the prediction.
        images: Each image that was counted.
    """

    confusion: Int64[np.ndarray, "K K"]
    boundary: Int64[np.ndarray, "3 K"]
    images: tuple[ImageScore, ...]


class SegmentationMetric:
    """Counts pixels of true class by predicted class.

    Args:
        classes: Names of the K classes.

    Raises:
        ValueError: If there are no classes, or more than labels of 8 bits tell apart.
    """

    primary = "mIoU"

    def __init__(self, classes: Sequence[str]) -> None:
        if not 1 <= len(classes) <= UNLABELLED:
            raise ValueError(
                f"a segmentation metric needs 1 to {UNLABELLED} classes, got {len(classes)}"
            )
        self.classes = tuple(classes)
        self.reset()

    def reset(self) -> None:
        """Forget all results."""
        count = len(self.classes)
        self._confusion = np.zeros((count, count), dtype=np.int64)
        self._boundary = np.zeros((3, count), dtype=np.int64)
        self._images: list[ImageScore] = []

    @property
    def images(self) -> tuple[ImageScore, ...]:
        """Each image that was counted, in order."""
        return tuple(self._images)

    def update(self, results: Sequence[Result], batch: Batch) -> None:
        """Add the results of a batch.

        Args:
            results: Label maps, one an image, of the size of the true ones.
            batch: Batch whose targets are the true label maps.

        Raises:
            TypeError: If results or targets are no label maps.
        """
        check_same_length("update", results=results, images=batch.infos)
        if not results:
            return
        targets = batch.targets
        if not isinstance(targets, list):
            raise TypeError(f"a segmentation metric needs label maps, got {type(targets)}")
        for result, target, info in zip(results, targets, batch.infos, strict=True):
            if not isinstance(result, LabelMap) or not isinstance(target, LabelMap):
                raise TypeError(f"a segmentation metric needs label maps, got {type(result)}")
            self.add(result, target, image_id=info.image_id, path=info.path)

    def add(self, result: LabelMap, target: LabelMap, *, image_id: int, path: str) -> ImageScore:
        """Count one image, on the device of the prediction, and say how good it is.

        Args:
            result: Predicted class of each pixel.
            target: True class of each pixel, 255 where nobody labelled.
            image_id: Number of the image.
            path: File of the image.

        Raises:
            ValueError: If the two have different sizes.
        """
        if result.labels.shape != target.labels.shape:
            raise ValueError(
                f"the label map of {path} has {tuple(target.labels.shape)} pixels, the prediction "
                f"{tuple(result.labels.shape)}"
            )
        predicted = _as_bytes(result.labels, "predicted labels", path)
        true = _as_bytes(target.labels.to(predicted.device), "labels", path)
        counts = count_pairs(true, predicted)
        count = len(self.classes)
        self._check(counts[:UNLABELLED].sum(axis=1), f"labels of {path}", ", or 255 for unlabelled")
        self._check(counts[:count].sum(axis=0), f"predicted labels of {path}", "")
        confusion = counts[:count, :count]
        self._confusion += confusion
        self._boundary += _boundary_counts(true, predicted, count)
        pixels, correct = int(confusion.sum()), int(np.trace(confusion))
        iou = float(np.nanmean(intersection_over_union(confusion))) if pixels else None
        score = ImageScore(image_id, path, pixels, pixels - correct, iou)
        self._images.append(score)
        return score

    def _check(self, counts: Int64[np.ndarray, " L"], what: str, exception: str) -> None:
        """Refuse labels beyond the classes, given how many pixels have each.

        Raises:
            ZigguratError: If there are any.
        """
        highest = int(np.flatnonzero(counts)[-1]) if counts.any() else 0
        if highest >= len(self.classes):
            raise ZigguratError(
                f"the {what} reach {highest}, but there are {len(self.classes)} classes, expected "
                f"0 to {len(self.classes) - 1}{exception}; mend the file"
            )

    def state(self) -> SegmentationState:
        """Return what was counted."""
        return SegmentationState(self._confusion.copy(), self._boundary.copy(), self.images)

    def merge(self, states: Sequence[SegmentationState]) -> None:
        """Replace what was counted by the sum over all processes."""
        self.reset()
        for state in states:
            self._confusion += state.confusion
            self._boundary += state.boundary
            self._images += state.images

    def compute(self) -> Report:
        """Return the numbers and one row a class.

        `mIoU`, `mAcc` and `mDice` are means over the classes that occur in the labels or in the
        predictions, as MMSegmentation and the published tables have it; `mIoU_all` is the mean
        over all classes, an absent one counting 0, as ADE20K's own evaluation has it.

        Raises:
            ZigguratError: If no labelled pixel was evaluated.
        """
        confusion = self._confusion
        if not confusion.sum():
            raise ZigguratError(
                "no labelled pixel was evaluated, so there is no mIoU: check that the split has "
                "label maps with classes"
            )
        correct = np.diag(confusion).astype(np.float64)
        true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        iou = intersection_over_union(confusion)
        accuracy = divide(correct, true)
        dice = divide(2 * correct, true + predicted)
        shared, near_true, near_predicted = self._boundary
        boundary = divide(shared, near_true + near_predicted - shared)
        numbers = {
            "mIoU": float(np.nanmean(iou)),
            "mAcc": float(np.nanmean(accuracy)),
            "aAcc": float(correct.sum() / confusion.sum()),
            "mDice": float(np.nanmean(dice)),
            "boundary_mIoU": float(np.nanmean(boundary)),
            "mIoU_all": float(np.nan_to_num(iou).mean()),
        }
        mistakes = confusion.copy()
        np.fill_diagonal(mistakes, 0)
        rows: list[ClassRow] = [
            {
                "class": name,
                "pixels": int(true[label]),
                "IoU": or_none(iou[label]),
                "accuracy": or_none(accuracy[label]),
                "Dice": or_none(dice[label]),
                "boundary_IoU": or_none(boundary[label]),
                "mistaken_for": (
                    self.classes[int(mistakes[label].argmax())] if mistakes[label].any() else None
                ),
            }
            for label, name in enumerate(self.classes)
        ]
        return Report(
            self.primary, numbers, rows, len(self._images), confusion.copy(), confusion_of="pixels"
        )


def count_pairs(
    true: UInt8[Tensor, "H W"], predicted: UInt8[Tensor, "H W"]
) -> Int64[np.ndarray, "256 256"]:
    """Count how many pixels have each pair of true (row) and predicted label (column).

    Args:
        true: A label of each pixel.
        predicted: Another.
    """
    pairs = true.to(torch.int32).bitwise_left_shift_(8)
    pairs += predicted
    counts = torch.bincount(pairs.flatten(), minlength=_LEVELS**2)
    return counts.view(_LEVELS, _LEVELS).cpu().numpy()


def intersection_over_union(confusion: Int[np.ndarray, "K K"]) -> Float[np.ndarray, " K"]:
    """Return the IoU of each class, NaN where it is in neither truth nor prediction.

    Args:
        confusion: Pixels of true class (row) by predicted class (column).
    """
    correct = np.diag(confusion)
    return divide(correct, confusion.sum(axis=1) + confusion.sum(axis=0) - correct)


def _boundary_counts(
    true: UInt8[Tensor, "H W"], predicted: UInt8[Tensor, "H W"], num_classes: int
) -> Int64[np.ndarray, "3 K"]:
    """Count pixels near contours: in truth and prediction alike, in the truth, in the prediction.

    What is far from a contour becomes unlabelled, each map by itself.
    """
    distance = boundary_distance((true.shape[0], true.shape[1]))
    predicted = _unlabelled_where(true == UNLABELLED, predicted)
    near_true, near_predicted = (
        _unlabelled_where(~near_boundary(labels, distance), labels) for labels in (true, predicted)
    )
    counts = count_pairs(near_true, near_predicted)
    shared = np.diag(counts)
    return np.stack([shared, counts.sum(axis=1), counts.sum(axis=0)])[:, :num_classes]


def _unlabelled_where(
    mask: Bool[Tensor, "H W"], labels: UInt8[Tensor, "H W"]
) -> UInt8[Tensor, "H W"]:
    # -1 of 8 bits without sign is 255; `masked_fill` takes several times as long.
    return labels | -mask.view(torch.uint8)


def _as_bytes(labels: Integer[Tensor, "H W"], what: str, path: str) -> UInt8[Tensor, "H W"]:
    """Convert labels to 8 bits.

    Raises:
        ZigguratError: If one does not fit.
    """
    if labels.dtype == torch.uint8 or not labels.numel():
        return labels.to(torch.uint8)
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high > UNLABELLED:
        raise ZigguratError(
            f"the {what} of {path} lie in {low}..{high}; expected 0..{UNLABELLED}, "
            f"{UNLABELLED} where nobody labelled; mend the file"
        )
    return labels.to(torch.uint8)


def divide(
    part: Float[np.ndarray, " K"] | Int[np.ndarray, " K"], whole: Int[np.ndarray, " K"]
) -> Float[np.ndarray, " K"]:
    """Divide class by class; NaN where there is nothing to divide by.

    Args:
        part: Of each class.
        whole: Of each class.
    """
    result = np.full(len(part), np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def or_none(value: float) -> float | None:
    """Return what a row of a report has: None where there was nothing to count.

    Args:
        value: A number, or NaN.
    """
    return None if np.isnan(value) else float(value)
