"""Top-1 and top-5 accuracy, accuracy of each class, and the confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import ClassRow, Report
from ziggurat.types import Batch, ClassScores, Result, check_same_length


@dataclass(frozen=True)
class ClassificationState:
    """What one process has counted.

    Attributes:
        confusion: Images of true class (row) by predicted class (column).
        num_in_top5: Images whose true class is among the five most probable ones.
    """

    confusion: Int[np.ndarray, "K K"]
    num_in_top5: int


class ClassificationMetric:
    """Counts how often the true class is the most probable one, or among the best five.

    Args:
        classes: Names of the K classes.

    Raises:
        ValueError: If there are no classes.
    """

    primary = "top1"

    def __init__(self, classes: Sequence[str]) -> None:
        if not classes:
            raise ValueError("a classification metric needs at least one class, got none")
        self.classes = tuple(classes)
        self.reset()

    def reset(self) -> None:
        """Forget all results."""
        count = len(self.classes)
        self._confusion = np.zeros((count, count), dtype=np.int64)
        self._num_in_top5 = 0

    def update(self, results: Sequence[Result], batch: Batch) -> None:
        """Add the results of a batch.

        Args:
            results: Class probabilities, one an image.
            batch: Batch whose targets are the true labels.

        Raises:
            TypeError: If the batch has no labels or a result holds no class scores.
            ValueError: If a label or the number of scores does not fit the classes.
        """
        check_same_length("update", results=results, images=batch.infos)
        if not results:
            return
        labels = batch.targets
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.ndim != 1:
            raise TypeError(f"a classification metric needs labels (B,), got {type(labels)}")
        scores = torch.stack([_scores_of(result) for result in results]).cpu()
        labels = labels.cpu()
        num_classes = len(self.classes)
        if scores.shape[1] != num_classes:
            raise ValueError(f"expected scores of {num_classes} classes, got {scores.shape[1]}")
        if labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(
                f"labels must lie in 0..{num_classes - 1}, got {int(labels.min())}.."
                f"{int(labels.max())}"
            )
        best = scores.topk(min(5, num_classes)).indices
        np.add.at(self._confusion, (labels.numpy(), best[:, 0].numpy()), 1)
        self._num_in_top5 += int((best == labels[:, None]).sum())

    def state(self) -> ClassificationState:
        """Return what was counted."""
        return ClassificationState(self._confusion.copy(), self._num_in_top5)

    def merge(self, states: Sequence[ClassificationState]) -> None:
        """Replace what was counted by the sum over all processes."""
        self.reset()
        for state in states:
            self._confusion += state.confusion
            self._num_in_top5 += state.num_in_top5

    def compute(self) -> Report:
        """Return top1 and top5 and one row a class.

        Raises:
            ZigguratError: If no image was evaluated.
        """
        total = int(self._confusion.sum())
        if not total:
            raise ZigguratError(
                "no image was evaluated, so there is no accuracy: check that the split has "
                "images that can be decoded"
            )
        numbers = {
            "top1": int(np.trace(self._confusion)) / total,
            "top5": self._num_in_top5 / total,
        }
        rows = [self._row(label) for label in range(len(self.classes))]
        return Report(self.primary, numbers, rows, total, self._confusion.copy())

    def _row(self, label: int) -> ClassRow:
        predicted = self._confusion[label]
        count, correct = int(predicted.sum()), int(predicted[label])
        wrong = predicted.copy()
        wrong[label] = 0
        return {
            "class": self.classes[label],
            "images": count,
            "correct": correct,
            "accuracy": correct / count if count else None,
            "mistaken_for": self.classes[int(wrong.argmax())] if wrong.any() else None,
        }


def _scores_of(result: Result) -> Tensor:
    if not isinstance(result, ClassScores):
        raise TypeError(f"a classification metric needs class scores, got {type(result)}")
    return result.scores
