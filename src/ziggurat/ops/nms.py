"""What is done about boxes that say the same: non-maximum suppression by class, and voting."""

from dataclasses import dataclass
from math import isfinite

from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import batched_nms

from ziggurat.errors import ZigguratError
from ziggurat.ops.box_voting import Voting, vote
from ziggurat.ops.soft_nms import Ranked, soft_nms
from ziggurat.types import Detections

METHODS = ("hard", "soft-linear", "soft-gaussian")


@dataclass(frozen=True)
class Suppression:
    """How duplicates among the boxes of a class are dealt with.

    Attributes:
        method: "hard" drops a box that overlaps a better one too much; "soft-linear" and
            "soft-gaussian" take score from it (soft-NMS).
        sigma: Width of the Gaussian rule, of no other.
        floor: Soft rules drop a box whose score falls below this.
        voting: How the candidates move the boxes that are kept; None leaves them where they are.
        max_detections: Number of detections that are kept; None keeps as many as the head says.

    Raises:
        ZigguratError: If the method is unknown, or a number out of range or without effect.
    """

    method: str = "hard"
    sigma: float = 0.5
    floor: float = 1e-4
    voting: Voting | None = None
    max_detections: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ZigguratError(
                f"unknown suppression {self.method!r}; choose one of {', '.join(METHODS)}"
            )
        if not (isfinite(self.sigma) and self.sigma > 0):
            raise ZigguratError(f"sigma of a suppression must be above 0, got {self.sigma}")
        if not 0 <= self.floor < 1:
            raise ZigguratError(f"floor of a suppression must lie in [0, 1), got {self.floor}")
        if self.max_detections is not None and self.max_detections < 1:
            raise ZigguratError(f"max_detections must be at least 1, got {self.max_detections}")
        if self.method != "soft-gaussian" and self.sigma != Suppression.sigma:
            raise ZigguratError(
                f"sigma has no effect on the suppression {self.method!r}, got {self.sigma}; leave "
                "it out, or choose soft-gaussian"
            )
        if self.method == "hard" and self.floor != Suppression.floor:
            raise ZigguratError(
                f"floor has no effect on the suppression 'hard', got {self.floor}; leave it out, "
                "or choose soft-linear or soft-gaussian"
            )


HARD = Suppression()
"""As the models were published."""


@dataclass(frozen=True)
class BoxCandidates:
    """What a head says of an image before duplicates are dealt with.

    Attributes:
        boxes: Boxes in pixels.
        scores: Their scores.
        labels: Their classes.
        iou: Overlap from which on a better box does something to another one.
        max_detections: Number of detections that are kept unless a suppression says another one.
    """

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    labels: Int[Tensor, " N"]
    iou: float
    max_detections: int

    def suppress(self, suppression: Suppression = HARD) -> Detections:
        """Return what is left, best first.

        Args:
            suppression: What a better box does to another one.
        """
        return suppress(
            self.boxes,
            self.scores,
            self.labels,
            iou=self.iou,
            max_detections=self.max_detections,
            suppression=suppression,
        )


def suppress(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    *,
    iou: float,
    max_detections: int,
    suppression: Suppression = HARD,
) -> Detections:
    """Keep the best of boxes that overlap in one class, best first.

    Args:
        boxes: Boxes in pixels.
        scores: Their scores.
        labels: Their classes; boxes of different classes never suppress each other.
        iou: Overlap from which on a better box does something to another one; the Gaussian rule
            knows no such limit.
        max_detections: Number of detections that are kept unless `suppression` says another one.
        suppression: What it does.
    """
    max_detections = suppression.max_detections or max_detections
    voting = suppression.voting
    # Where a vote changes scores, the best are known after it only.
    has_new_scores = voting is not None and voting.score != "id"
    count = len(boxes) if has_new_scores else max_detections
    kept, kept_scores = _keep(boxes, scores, labels, iou, count, suppression)
    if voting is None:
        return Detections(boxes[kept], kept_scores, labels[kept])
    moved, kept_scores = vote(kept, kept_scores, boxes, scores, labels, voting)
    voted = Detections(moved, kept_scores, labels[kept])
    return voted.select(kept_scores.argsort(descending=True, stable=True)[:max_detections])


def _keep(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    iou: float,
    count: int,
    suppression: Suppression,
) -> Ranked:
    if suppression.method == "hard":
        kept = batched_nms(boxes, scores, labels, iou)[:count]
        return kept, scores[kept]
    return soft_nms(
        boxes,
        scores,
        labels,
        decay="linear" if suppression.method == "soft-linear" else "gaussian",
        iou=iou,
        sigma=suppression.sigma,
        floor=suppression.floor,
        count=count,
    )
