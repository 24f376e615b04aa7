"""Intersection over union of masks that may overlap, each class for itself.

A pixel belongs to any number of classes, so that there is no confusion matrix: three counts a class
give every number, and three of what is near contours give Boundary IoU. They are integers, hence
the sum over processes is exact.

Shapes: K classes, H x W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import ClassRow, Report
from ziggurat.metrics.boundaries import boundary_distance, near_boundary
from ziggurat.metrics.segmentation import ImageScore, divide, or_none
from ziggurat.types import Batch, ClassMasks, ImageInfo, Result, check_same_length

Masks = Bool[Tensor, "K H W"]


@dataclass(frozen=True)
class MaskCounts:
    """What one process counted.

    Attributes:
        pixels: Pixels of each class: in truth and prediction alike, in the truth, in the
            prediction.
        boundary: Those of them that are near a contour of their own mask.
        right: Pairs of a labelled pixel and a class that truth and prediction agree on.
        images: Each image that was counted.
    """

    pixels: Int64[np.ndarray, "3 K"]
    boundary: Int64[np.ndarray, "3 K"]
    right: int
    images: tuple[ImageScore, ...]


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
        self._boundary = np.zeros((3, len(self.classes)), dtype=np.int64)
        self._right = 0
        self._images: list[ImageScore] = []

    @property
    def images(self) -> tuple[ImageScore, ...]:
        """Each image that was counted, in order."""
        return tuple(self._images)

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
            self._count(result, target, info)

    def _count(self, result: ClassMasks, target: ClassMasks, info: ImageInfo) -> None:
        """Count one image; a pixel of it is wrong where any class is.

        Raises:
            ValueError: If truth, prediction and classes differ in number or size.
        """
        shape = (len(self.classes), *target.masks.shape[1:])
        if not tuple(result.masks.shape) == tuple(target.masks.shape) == shape:
            raise ValueError(
                f"the true masks of {info.path} have the shape {tuple(target.masks.shape)} and the "
                f"predicted ones {tuple(result.masks.shape)}; expected {len(self.classes)} classes "
                "and one size"
            )
        counted = ~target.ignored.to(result.masks.device)
        true = target.masks.to(result.masks.device) & counted
        found = result.masks & counted
        pixels = _sums(true, found)
        labelled = int(counted.sum())
        self._pixels += pixels
        self._boundary += _boundary_sums(true, found, pixels)
        both, of_true, of_found = pixels
        self._right += labelled * len(self.classes) - int((of_true + of_found - 2 * both).sum())
        wrong = int((true ^ found).any(dim=0).sum())
        iou = divide(both, of_true + of_found - both)
        score = None if np.isnan(iou).all() else float(np.nanmean(iou))
        self._images.append(ImageScore(info.image_id, info.path, labelled, wrong, score))

    def state(self) -> MaskCounts:
        """Return what was counted."""
        return MaskCounts(
            self._pixels.copy(), self._boundary.copy(), self._right, tuple(self._images)
        )

    def merge(self, states: Sequence[MaskCounts]) -> None:
        """Replace what was counted by the sum over all processes."""
        self.reset()
        for state in states:
            self._pixels += state.pixels
            self._boundary += state.boundary
            self._right += state.right
            self._images += state.images

    def compute(self) -> Report:
        """Return the numbers and one row a class.

        `mIoU`, `mDice`, `mAcc` and `boundary_mIoU` are means over the classes that occur, as of
        label maps; `aAcc` is the share of right answers among all pairs of a labelled pixel and a
        class.

        Raises:
            ZigguratError: If no labelled pixel was evaluated.
        """
        labelled = sum(image.pixels for image in self._images)
        if not labelled:
            raise ZigguratError(
                "no labelled pixel was evaluated, so there is no mIoU: check that the split has "
                "masks of classes"
            )
        both, true, found = self._pixels
        iou, dice = divide(both, true + found - both), divide(2 * both, true + found)
        recall, precision = divide(both, true), divide(both, found)
        shared, near_true, near_found = self._boundary
        boundary = divide(shared, near_true + near_found - shared)
        numbers = {
            "mIoU": _mean(iou),
            "mAcc": _mean(recall),
            "aAcc": self._right / (labelled * len(self.classes)),
            "mDice": _mean(dice),
            "boundary_mIoU": _mean(boundary),
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
                "boundary_IoU": or_none(boundary[label]),
            }
            for label, name in enumerate(self.classes)
        ]
        return Report(self.primary, numbers, rows, len(self._images))


def _sums(true: Masks, found: Masks) -> Int64[np.ndarray, "3 K"]:
    """Count the pixels of each class: in truth and prediction alike, in the truth, in the other."""
    sums = [mask.flatten(1).sum(dim=1) for mask in (true & found, true, found)]
    return torch.stack(sums).cpu().numpy()


def _boundary_sums(
    true: Masks, found: Masks, pixels: Int64[np.ndarray, "3 K"]
) -> Int64[np.ndarray, "3 K"]:
    """Count those pixels of each class that are near a contour of their own mask.

    Args:
        true: True masks, nowhere where nobody labelled: the edge of that is a contour, too.
        found: Predicted masks, likewise.
        pixels: Pixels of each class, of which those that are nowhere need no look.
    """
    distance = boundary_distance((true.shape[1], true.shape[2]))
    counts = np.zeros_like(pixels)
    for label in np.flatnonzero(pixels.any(axis=0)).tolist():
        near_true, near_found = (
            (mask[label] & near_boundary(mask[label], distance))[None] for mask in (true, found)
        )
        counts[:, label] = _sums(near_true, near_found)[:, 0]
    return counts


def _mean(values: Float[np.ndarray, " K"]) -> float:
    """Return the mean of what there is, NaN of nothing."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else math.nan
