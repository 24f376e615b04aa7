"""What every metric can do, and what it reports.

A metric collects results batch by batch, can be united over processes, and ends in a `Report`:
numbers between 0 and 1, one row a class, and the confusion matrix where there is one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from ziggurat.metrics.errors import ErrorBreakdown
from ziggurat.types import Batch, Result

ClassRow = dict[str, str | int | float | None]
"""One class or size of a report, named by its first key; None where nothing was to count."""


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        primary: Name of the number that decides which of two models is better.
        numbers: Name to value, as fractions; NaN where there was nothing to count.
        per_class: One row a class, all with the same keys.
        num_images: Images that were evaluated.
        confusion: Images, or pixels, of true class (row) by predicted class (column), or None.
        per_size: One row for small, medium and large objects, of a detector.
        errors: What was wrong and what it cost, of boxes and of masks, where it was asked for.
        confusion_of: What the confusion matrix counts.
    """

    primary: str
    numbers: dict[str, float]
    per_class: list[ClassRow]
    num_images: int
    confusion: Int[np.ndarray, "K K"] | None = None
    per_size: list[ClassRow] = field(default_factory=list)
    errors: tuple[ErrorBreakdown, ...] = ()
    confusion_of: Literal["images", "pixels"] = "images"

    @property
    def value(self) -> float:
        """The primary number."""
        return self.numbers[self.primary]

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dump` writes; null where there was nothing to count."""
        numbers = {
            name: None if math.isnan(value) else value for name, value in self.numbers.items()
        }
        content: dict[str, Any] = {
            "primary": self.primary,
            "num_images": self.num_images,
            "metrics": numbers,
            "per_class": self.per_class,
        }
        if self.confusion is not None:
            content["confusion"] = self.confusion.tolist()
            content["confusion_of"] = self.confusion_of
        if self.per_size:
            content["per_size"] = self.per_size
        if self.errors:
            content["errors"] = {breakdown.of: breakdown.to_json() for breakdown in self.errors}
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Report":
        """Read what `to_json` gave; what mistakes cost is left out.

        Where it is not said what a confusion matrix counts, as older files do not, it is pixels
        beside mIoU and images otherwise.

        Args:
            content: The dictionary; a key that is missing is a `KeyError`.
        """
        confusion = content.get("confusion")
        usual = "pixels" if content["primary"] == "mIoU" else "images"
        return cls(
            primary=content["primary"],
            numbers={
                name: math.nan if value is None else value
                for name, value in content["metrics"].items()
            },
            per_class=content["per_class"],
            num_images=content["num_images"],
            confusion=None if confusion is None else np.array(confusion, dtype=np.int64),
            per_size=content.get("per_size", []),
            confusion_of=content.get("confusion_of", usual),
        )


@runtime_checkable
class Metric(Protocol):
    """Collects results and counts them.

    Attributes:
        primary: Name of the number of the report that decides which of two models is better.
    """

    primary: str

    def reset(self) -> None:
        """Forget all results."""

    def update(self, results: Sequence[Result], batch: Batch) -> None:
        """Add the results of a batch.

        Args:
            results: What the model decoded, one an image; boxes in pixels of the original image.
            batch: Where the images come from and, for a classifier, what they show.
        """

    def state(self) -> Any:  # noqa: ANN401  only the metric itself looks into it
        """Return all that was collected, as something that can be pickled."""

    def merge(self, states: Sequence[Any]) -> None:
        """Replace what was collected by the union of the states of all processes."""

    def compute(self) -> Report:
        """Count.

        Raises:
            ZigguratError: If no image was evaluated.
        """
