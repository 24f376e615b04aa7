"""Test-time augmentation: a model looks at an image several times, mirrored and at other sizes.

What a classifier or a segmenter says of the views is averaged. What a detector finds in them is put
together by weighted fusion (after Solovyev et al., arXiv:1910.13302).
Suppression would keep one view's box and forget the others; fusion takes all of them as voices:

- The surest box leads a group; of every other view the box of the same class that overlaps it most
  joins, if the IoU is above 0.55.
- The fused box is the mean of the group, weighted by score.
- The fused score is the sum of the scores over the number of views: an object that half of the
  views do not see is half as sure.
- A pixel belongs to the fused mask where at least half of the weight says so.
- Of each keypoint the surest one leads, and the mean is taken of those that lie near it, weighted
  likewise; its score is theirs, over the weight of the whole group.

Shapes: N objects of all views.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor
from torchvision.ops import box_iou

from ziggurat.errors import ZigguratError
from ziggurat.inference.joined_points import mean_points
from ziggurat.inference.mask_windows import concatenate, join_masks
from ziggurat.inference.views import Region, View
from ziggurat.types import Detections

FUSION_IOU = 0.55
"""Boxes of two views that overlap more are one object (Solovyev et al., section 3)."""
_LEAST_WEIGHT = 1e-12
MAX_SCALE = 4.0


@dataclass(frozen=True)
class Augmentation:
    """Which views of an image a model gets.

    Attributes:
        flip: Whether each view comes a second time, mirrored.
        scales: Factors on the size of evaluation, one a view.

    Raises:
        ZigguratError: If there is no scale, one twice, or one out of range.
    """

    flip: bool = True
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.scales or len(set(self.scales)) < len(self.scales):
            raise ZigguratError(
                f"scales must be different factors on the image size, got {list(self.scales)}; "
                "give some, for example 0.8 1.0 1.25"
            )
        for scale in self.scales:
            if not (isfinite(scale) and 0 < scale <= MAX_SCALE):
                raise ZigguratError(
                    f"a scale must lie above 0 and be at most {MAX_SCALE:g}, got {scale:g}; 1 is "
                    "the size that the model was evaluated at"
                )

    @property
    def has_views(self) -> bool:
        """Whether there is more than one view, or another one than the image as it is."""
        return self.flip or self.scales != (1.0,)

    def views(self, region: Region) -> list[View]:
        """Return all views of a part of an image."""
        mirrored = (False, True) if self.flip else (False,)
        return [View(region, scale, flip) for scale in self.scales for flip in mirrored]


def fuse(views: Sequence[Detections]) -> Detections:
    """Put together what several views of one part of an image say, best first.

    Args:
        views: Objects of each view, all in pixels of the image.
    """
    if len(views) == 1:
        return views[0]
    found = concatenate(views)
    view_of = torch.cat([torch.full((len(view),), i) for i, view in enumerate(views)])
    groups = _group(found, view_of)
    weights = found.scores.clamp(min=_LEAST_WEIGHT)
    boxes = [
        (found.boxes[group] * weights[group, None]).sum(dim=0) / weights[group].sum()
        for group in groups
    ]
    scores = [found.scores[group].sum() / len(views) for group in groups]
    masks = found.masks
    if masks is not None:
        masks = join_masks(masks, groups, weights, share=0.5)
    keypoints = found.keypoints
    if keypoints is not None:
        keypoints = mean_points(keypoints, found.boxes, groups, weights)
    leaders = torch.tensor([group[0] for group in groups], dtype=torch.int64)
    fused = Detections(
        torch.stack(boxes) if boxes else found.boxes,
        torch.stack(scores) if scores else found.scores,
        found.labels[leaders],
        masks,
        keypoints,
    )
    return fused.select(fused.scores.argsort(descending=True, stable=True))


def _group(found: Detections, view_of: Tensor) -> list[list[int]]:
    """Return the numbers of the objects of each group, its leader first."""
    overlaps = box_iou(found.boxes, found.boxes)
    same_class = found.labels[:, None] == found.labels
    joins = same_class & (overlaps > FUSION_IOU) & (view_of[:, None] != view_of)
    free = torch.ones(len(found), dtype=torch.bool)
    groups = []
    for leader in found.scores.argsort(descending=True, stable=True).tolist():
        if not free[leader]:
            continue
        members = (joins[leader] & free).nonzero()[:, 0]
        nearest_first = members[overlaps[leader][members].argsort(descending=True, stable=True)]
        of_view: dict[int, int] = {}
        for member in nearest_first.tolist():
            of_view.setdefault(int(view_of[member]), member)
        group = [leader, *of_view.values()]
        free[group] = False
        groups.append(group)
    return groups
