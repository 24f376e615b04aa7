"""Intersection over union of masks that may overlap, each class for itself.

A pixel belongs to any number of classes, so that there is no confusion matrix: three counts a class
give every number. They are integers, hence the sum over processes is exact.

Shapes: K classes, H x W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import ClassRow, Report
from ziggurat.metrics.segmentation import divide, or_none
from ziggurat.types import Batch, ClassMasks, Result, check_same_length


@dataclass(frozen=True)
class MaskCounts:
    """What one process counted.

    Attributes:
        pixels: Pixels of each class: in truth and prediction alike, in the truth, in the
            prediction.
        labelled: Pixels that somebody labelled.
        right: Pairs of such a pixel and a class that truth and prediction agree on.
        num_images: Images that were counted.
    """

    pixels: Int64[np.ndarray, "3 K"]
    labelled: int
    right: int
    num_images: int


class MultiLabelMetric:
    """Counts the pixels of each class in truth and prediction.

    Args:
        classes: Names of the K classes.

    Raises:
        ValueError: If there are no classes.
    """

    primary = "mIoU"

    def __init__(self, classes: Sequence[str]) -> None:
        if not classes:
            raise ValueError("a segmentation metric needs at least one class, got none")
        self.classes = tuple(classes)
        self.reset()

    def reset(self) -> None:
        """Forget all results."""
        self._pixels = np.zeros((3, len(self.classes)), dtype=np.int64)
        self._labelled = self._right = self._num_images = 0

    def update(self, results: Sequence[Result], batch: Batch) -> None:
        """Add the results of a batch, counted on the device of the predictions.

        Args:
            results: Masks of the classes, one set an image, of the size of the true ones.
            batch: Batch whose targets are the true masks.

        Raises:
            TypeError: If results or targets are no masks of classes.
        """
        check_same_length("update", results=results, images=batch.infos)
        if not results:
            return
        targets = batch.targets
        if not isinstance(targets, list):
            raise TypeError(f"a multi-label metric needs masks of classes, got {type(targets)}")
        for result, target, info in zip(results, targets, batch.infos, strict=True):
            if not isinstance(result, ClassMasks) or not isinstance(target, ClassMasks):
                raise TypeError(f"a multi-label metric needs masks of classes, got {type(result)}")
            self._count(result, target, info.path)

    def _count(self, result: ClassMasks, target: ClassMasks, path: str) -> None:
        """Count one image.

        Raises:
            ValueError: If truth, prediction and classes differ in number or size.
        """
        shape = (len(self.classes), *target.masks.shape[1:])
        if not tuple(result.masks.shape) == tuple(target.masks.shape) == shape:
            raise ValueError(
                f"the true masks of {path} have the shape {tuple(target.masks.shape)} and the "
                f"predicted ones {tuple(result.masks.shape)}; expected {len(self.classes)} classes "
                "and one size"
            )
        counted = ~target.ignored.to(result.masks.device)
        true = target.masks.to(result.masks.device) & counted
        found = result.masks & counted
        sums = [mask.flatten(1).sum(dim=1) for mask in (true & found, true, found)]
        both, of_true, of_found = (counts.cpu().numpy() for counts in sums)
        labelled = int(counted.sum())
        self._pixels += np.stack([both, of_true, of_found])
        self._labelled += labelled
        self._right += labelled * len(self.classes) - int((of_true + of_found - 2 * both).sum())
        self._num_images += 1

    def state(self) -> MaskCounts:
        """Return what was counted."""
        return MaskCounts(self._pixels.copy(), self._labelled, self._right, self._num_images)

    def merge(self, states: Sequence[MaskCounts]) -> None:
        """Replace what was counted by the sum over all processes."""
        self.reset()
        for state in states:
            self._pixels += state.pixels
            self._labelled += state.labelled
            self._right += state.right
            self._num_images += state.num_images

    def compute(self) -> Report:
        """Return the numbers and one row a class.

        `mIoU`, `mDice` and `mAcc` are means over the classes that occur, as of label maps; `aAcc`
        is the share of right answers among all pairs of a labelled pixel and a class.

        Raises:
            ZigguratError: If no labelled pixel was evaluated.
        """
        if not self._labelled:
            raise ZigguratError(
                "no labelled pixel was evaluated, so there is no mIoU: check that the split has "
                "masks of classes"
            )
        both, true, found = self._pixels
        iou, dice = divide(both, true + found - both), divide(2 * both, true + found)
        recall, precision = divide(both, true), divide(both, found)
        numbers = {
            "mIoU": _mean(iou),
            "mAcc": _mean(recall),
            "aAcc": self._right / (self._labelled * len(self.classes)),
            "mDice": _mean(dice),
            "mIoU_all": float(np.nan_to_num(iou).mean()),
        }
        rows: list[ClassRow] = [
            {
                "class": name,
                "pixels": int(true[label]),
                "IoU": or_none(iou[label]),
                "accuracy": or_none(recall[label]),
                "precision": or_none(precision[label]),
                "Dice": or_none(dice[label]),
            }
            for label, name in enumerate(self.classes)
        ]
        return Report(self.primary, numbers, rows, self._num_images)


def _mean(values: Float[np.ndarray, " K"]) -> float:
    """Return the mean of what there is, NaN of nothing."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else math.nan
