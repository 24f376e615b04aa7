"""Intersection over union of label maps: mIoU as it is published, in both of its conventions.

All pixels of all images go into one confusion matrix, from which every number follows; that makes
the numbers of many processes exact, since matrices add up.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import ClassRow, Report
from ziggurat.types import Batch, LabelMap, Result, check_same_length

UNLABELLED = 255
"""Label of pixels that nobody labelled; they do not count."""


class SegmentationMetric:
    """Counts pixels of true class by predicted class.

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
        count = len(self.classes)
        self._confusion = np.zeros((count, count), dtype=np.int64)
        self._num_images = 0

    def update(self, results: Sequence[Result | LabelMap], batch: Batch) -> None:
        """Add the results of a batch.

        Args:
            results: Label maps, one an image, of the size of the true ones.
            batch: Batch whose targets are the true label maps.

        Raises:
            TypeError: If results or targets are no label maps.
        """
        check_same_length("update", results=results, images=batch.infos)
        targets = batch.targets
        if not isinstance(targets, list):
            raise TypeError(f"a segmentation metric needs label maps, got {type(targets)}")
        for result, target, info in zip(results, targets, batch.infos, strict=True):
            if not isinstance(result, LabelMap) or not isinstance(target, LabelMap):
                raise TypeError(f"a segmentation metric needs label maps, got {type(result)}")
            self._confusion += self._count(result.labels, target.labels, info.path)
            self._num_images += 1

    def _count(
        self, predicted: Integer[Tensor, "H W"], true: Integer[Tensor, "h w"], path: str
    ) -> Int[np.ndarray, "K K"]:
        """Count the pixels of one image, on the device of the prediction.

        Raises:
            ValueError: If the two have different sizes.
            ZigguratError: If a label is no class.
        """
        num_classes = len(self.classes)
        if predicted.shape != true.shape:
            raise ValueError(
                f"the label map of {path} has {tuple(true.shape)} pixels, the prediction "
                f"{tuple(predicted.shape)}"
            )
        true = true.to(predicted.device).long()
        counted = true != UNLABELLED
        labels = true[counted]
        if labels.numel() and int(labels.max()) >= num_classes:
            raise ZigguratError(
                f"the labels of {path} reach {int(labels.max())}, but there are {num_classes} "
                f"classes, 0 to {num_classes - 1}, and 255 for unlabelled pixels; mend the file"
            )
        pairs = labels * num_classes + predicted[counted].long()
        matrix = torch.bincount(pairs, minlength=num_classes**2)
        return matrix.view(num_classes, num_classes).cpu().numpy()

    def state(self) -> tuple[Int[np.ndarray, "K K"], int]:
        """Return the matrix and the number of images."""
        return self._confusion.copy(), self._num_images

    def merge(self, states: Sequence[tuple[Int[np.ndarray, "K K"], int]]) -> None:
        """Replace what was counted by the sum over all processes."""
        self.reset()
        for confusion, num_images in states:
            self._confusion += confusion
            self._num_images += num_images

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
        union = true + predicted - correct
        iou, accuracy = _divide(correct, union), _divide(correct, true)
        dice = _divide(2 * correct, true + predicted)
        numbers = {
            "mIoU": float(np.nanmean(iou)),
            "mAcc": float(np.nanmean(accuracy)),
            "aAcc": float(correct.sum() / confusion.sum()),
            "mDice": float(np.nanmean(dice)),
            "mIoU_all": float(np.nan_to_num(iou).mean()),
        }
        rows: list[ClassRow] = [
            {
                "class": name,
                "pixels": int(true[label]),
                "IoU": _or_none(iou[label]),
                "accuracy": _or_none(accuracy[label]),
                "Dice": _or_none(dice[label]),
            }
            for label, name in enumerate(self.classes)
        ]
        return Report(self.primary, numbers, rows, self._num_images, confusion.copy())


def _divide(
    part: Float[np.ndarray, " K"], whole: Float[np.ndarray, " K"] | Int[np.ndarray, " K"]
) -> Float[np.ndarray, " K"]:
    """Divide; NaN where there is nothing to divide by."""
    result = np.full(len(part), np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
