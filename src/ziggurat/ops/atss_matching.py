"""Adaptive training sample selection (Zhang et al., arXiv:1912.02424, section 4.1, algorithm 1).

What is foreground follows from each object itself: of the anchors nearest to its centre, those of
an IoU that stands out among them. So an object of any size or shape gets its anchors without a
threshold that somebody had to choose.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ziggurat.ops.matching import BACKGROUND, IGNORED

LEAST_INSET = 0.01
"""A foreground anchor's centre is inside the object by more than this, in pixels."""


def match_by_statistics(
    levels: Sequence[Float[Tensor, "_ 4"]],
    counted: Sequence[Bool[Tensor, " _"]],
    boxes: Float[Tensor, "G 4"],
    *,
    num_nearest: int = 9,
    max_pairs: int = 4_000_000,
) -> Int[Tensor, " N"]:
    """Give each anchor the index of its object, or BACKGROUND; IGNORED where it does not count.

    Memory grows with the candidates, a few dozen an object, not with objects times anchors.

    Args:
        levels: Anchors of every level, in pixels.
        counted: Which of them count.
        boxes: True boxes in pixels.
        num_nearest: Candidates of an object in each level (k in the paper).
        max_pairs: Anchor-object pairs held in memory at once; more are taken in turns.
    """
    anchors = torch.cat(list(levels))
    on_image = torch.cat(list(counted))
    matches = torch.where(on_image, BACKGROUND, IGNORED)
    if len(boxes) == 0 or not on_image.any():
        return matches
    candidates = _candidates(levels, counted, boxes, num_nearest, max_pairs)
    near = anchors[candidates]
    iou = _iou(boxes[:, None], near)
    # Equation: t_g = m_g + v_g, mean and standard deviation (unbiased, as published) of the IoUs.
    spread = iou.std(dim=1, keepdim=True) if iou.shape[1] > 1 else torch.zeros_like(iou)
    centers = (near[..., :2] + near[..., 2:]) / 2
    insets = torch.cat([centers - boxes[:, None, :2], boxes[:, None, 2:] - centers], dim=-1)
    is_foreground = (iou >= iou.mean(dim=1, keepdim=True) + spread) & (
        insets.amin(dim=-1) > LEAST_INSET
    )
    objects, places = is_foreground.nonzero(as_tuple=True)
    chosen, values = candidates[objects, places], iou[objects, places]
    # An anchor that several objects want goes to the one with the highest IoU; of equal ones to the
    # first. The best object of an anchor is written last.
    best = values.new_full((len(anchors),), -1.0)
    best = best.scatter_reduce(0, chosen, values, "amax")
    winners = values == best[chosen]
    first = torch.full_like(matches, len(boxes))
    first = first.scatter_reduce(0, chosen[winners], objects[winners], "amin")
    return torch.where(first < len(boxes), first, matches)


def _candidates(
    levels: Sequence[Float[Tensor, "_ 4"]],
    counted: Sequence[Bool[Tensor, " _"]],
    boxes: Float[Tensor, "G 4"],
    num_nearest: int,
    max_pairs: int,
) -> Int[Tensor, "G M"]:
    """Find the anchors of each level that are nearest to the centre of each object."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    found, offset = [], 0
    for level, on_image in zip(levels, counted, strict=True):
        indices = on_image.nonzero().flatten()
        points = (level[indices, :2] + level[indices, 2:]) / 2
        count = min(num_nearest, len(indices))
        if count:
            turns = [
                _distances(part, points).topk(count, dim=1, largest=False).indices
                for part in centers.split(max(1, max_pairs // len(indices)))
            ]
            found.append(indices[torch.cat(turns)] + offset)
        offset += len(level)
    return torch.cat(found, dim=1)


def _distances(centers: Float[Tensor, "G 2"], points: Float[Tensor, "N 2"]) -> Float[Tensor, "G N"]:
    dx = points[:, 0] - centers[:, :1]
    dy = points[:, 1] - centers[:, 1:]
    return dx.square_().add_(dy.square_()).sqrt_()


def _iou(boxes: Float[Tensor, "G 1 4"], anchors: Float[Tensor, "G M 4"]) -> Float[Tensor, "G M"]:
    """IoU of each object with its own candidates."""
    top_left = torch.maximum(boxes[..., :2], anchors[..., :2])
    bottom_right = torch.minimum(boxes[..., 2:], anchors[..., 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
    anchor_area = (anchors[..., 2:] - anchors[..., :2]).prod(dim=-1)
    return overlap / (area + anchor_area - overlap)
