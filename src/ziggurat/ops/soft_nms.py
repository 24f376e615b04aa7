"""Soft non-maximum suppression: a box loses score for what it shares with a better one.

Bodla et al., arXiv:1704.04503: where two objects of a class stand close together, suppression drops
the second one; softer rules only make it less sure.

All classes go forward together, each by its best box of the moment. No box gains score, so that
the boxes of a class come out best first, and the best n of all classes are among the first n of
each.

Shapes: N boxes, K classes that occur, M boxes of the class that has most.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ziggurat.ops.boxes import paired_iou

Decay = Literal["linear", "gaussian"]
"""Eq. 2 of the paper, 1 - IoU above a threshold, or eq. 3, exp(-IoU^2 / sigma)."""

Ranked = tuple[Int[Tensor, " n"], Float[Tensor, " n"]]
"""Indices of boxes, best first, and their scores."""


def soft_nms(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    *,
    decay: Decay,
    iou: float,
    sigma: float,
    floor: float,
    count: int,
) -> Ranked:
    """Return the boxes that stay, with the scores that are left to them.

    Args:
        boxes: Boxes in pixels.
        scores: Their scores.
        labels: Their classes; boxes of different classes take nothing from each other.
        decay: How a score falls.
        iou: Overlap from which on the linear rule takes something.
        sigma: Width of the Gaussian rule.
        floor: A box that falls below this score is dropped.
        count: Number of boxes that are kept, of all classes.
    """
    members = by_class(labels).members
    present = members >= 0
    corners = boxes[members.clamp(min=0)]  # (K, M, 4)
    left = torch.where(present, scores[members.clamp(min=0)], -torch.inf)
    chosen, found = [], []
    for _ in range(min(count, members.shape[1])):
        best_scores, best = left.max(dim=1)
        if not (best_scores >= floor).any():
            break
        place = best[:, None]
        chosen.append(members.gather(1, place)[:, 0])
        found.append(best_scores)
        overlaps = paired_iou(corners, corners.gather(1, place[..., None].expand(-1, -1, 4)))
        if decay == "linear":
            factors = torch.where(overlaps > iou, 1 - overlaps, 1.0)
        else:
            factors = torch.exp(-overlaps.square() / sigma)
        # What is taken, or only fills a row, stays so: -inf times 0 would be no number.
        left = torch.where(left.isneginf(), left, left * factors).scatter(1, place, -torch.inf)
    if not chosen:
        return labels[:0], scores[:0]
    kept, kept_scores = torch.cat(chosen), torch.cat(found)
    is_left = kept_scores >= floor
    kept, kept_scores = kept[is_left], kept_scores[is_left]
    order = kept_scores.argsort(descending=True, stable=True)[:count]
    return kept[order], kept_scores[order]


class ClassTable(NamedTuple):
    """Boxes by class.

    Attributes:
        members: Indices of the boxes of each class, a row a class, filled up with -1.
        rows: Row of each box.
    """

    members: Int[Tensor, "K M"]
    rows: Int[Tensor, " N"]


def by_class(labels: Int[Tensor, " N"]) -> ClassTable:
    """Put the boxes of each class that occurs into a row.

    Args:
        labels: Class of each box.
    """
    _, rows, counts = labels.unique(return_inverse=True, return_counts=True)
    members = labels.new_full((len(counts), int(counts.max()) if len(counts) else 0), -1)
    order = rows.argsort(stable=True)
    first = counts.cumsum(0) - counts
    columns = torch.arange(len(labels), device=labels.device) - first[rows[order]]
    members[rows[order], columns] = order
    return ClassTable(members, rows)
