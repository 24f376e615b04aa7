"""Keypoints of one object that was seen several times, put together.

Shapes: N objects of all views, G groups of them, P points of each.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.keypoints import Keypoints

NEAR = 0.1
"""Points of two views that are nearer, in square roots of the object's area, are one point."""
_LEAST_WEIGHT = 1e-12


def surest_points(keypoints: Keypoints, groups: Sequence[Sequence[int]]) -> Keypoints:
    """Take each point from the object of a group that is surest of it.

    Args:
        keypoints: Points of N objects.
        groups: Numbers of the objects of each group.
    """
    points = [_surest(keypoints.points[list(group)]) for group in groups]
    return _together(keypoints, points)


def mean_points(
    keypoints: Keypoints,
    boxes: Float[Tensor, "N 4"],
    groups: Sequence[Sequence[int]],
    weights: Float[Tensor, " N"],
) -> Keypoints:
    """Take the mean of the points of a group that agree with the surest one.

    Views that see a point in two places, as left and right in one, are not met in the middle.

    Args:
        keypoints: Points of N objects.
        boxes: Their boxes, which say how large they are.
        groups: Numbers of the objects of each group.
        weights: Voice of each object, above 0.
    """
    points = []
    for group in groups:
        seen, voices = keypoints.points[list(group)], weights[list(group)]
        first = boxes[group[0]]
        size = (first[2:] - first[:2]).clamp(min=0).prod().sqrt()
        distance = (seen[..., :2] - _surest(seen)[:, :2]).norm(dim=2)
        votes = voices[:, None] * seen[..., 2].clamp(min=_LEAST_WEIGHT) * (distance <= NEAR * size)
        place = (seen[..., :2] * votes[..., None]).sum(dim=0) / votes.sum(dim=0)[:, None]
        score = votes.sum(dim=0) / voices.sum()
        points.append(torch.cat([place, score[:, None]], dim=1))
    return _together(keypoints, points)


def _surest(seen: Float[Tensor, "_ P 3"]) -> Float[Tensor, "P 3"]:
    best: Tensor = seen[seen[..., 2].argmax(dim=0), torch.arange(seen.shape[1], device=seen.device)]
    return best


def _together(keypoints: Keypoints, points: Sequence[Float[Tensor, "P 3"]]) -> Keypoints:
    return replace(keypoints, points=torch.stack([*points]) if points else keypoints.points[:0])
