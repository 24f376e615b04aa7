"""Non-maximum suppression by class."""

from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import batched_nms

from ziggurat.types import Detections


def suppress(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    *,
    iou: float,
    max_detections: int,
) -> Detections:
    """Keep the best of boxes that overlap in one class, best first.

    Args:
        boxes: Boxes in pixels.
        scores: Their scores.
        labels: Their classes; boxes of different classes never suppress each other.
        iou: A box is dropped if it overlaps a better one by more than this.
        max_detections: Number of detections that are kept.
    """
    keep = batched_nms(boxes, scores, labels, iou)[:max_detections]
    return Detections(boxes[keep], scores[keep], labels[keep])
