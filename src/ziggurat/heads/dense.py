"""What dense heads share: towers, the order of anchors, and the way from logits to detections.

Shapes: B images, K classes, A anchors a cell, N anchors of a level.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ziggurat.errors import ZigguratError
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.ops.anchors import SIZE_DIVISOR, AnchorGrid
from ziggurat.ops.boxes import scale_boxes
from ziggurat.ops.candidates import CandidateRule, best_candidates
from ziggurat.ops.nms import BoxCandidates
from ziggurat.ops.padding import aligned_size
from ziggurat.types import ImageSize

PRIOR = 0.01
"""Probability of foreground that classification starts from (arXiv:1708.02002, section 4.1)."""
GROUPS = 32
"""Groups of a group norm."""


@dataclass(frozen=True)
class Selection:
    """How detections are chosen.

    Attributes:
        rule: What `candidates_per_level` counts.
        score_threshold: Least score of a detection.
        nms_iou: Detections of one class that overlap more are duplicates.
        candidates_per_level: What of a level, best first, enters the suppression.
        max_detections: Detections of an image.
    """

    rule: CandidateRule = "anchors"
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    candidates_per_level: int = 1000
    max_detections: int = 100


def select_candidates(
    logits: Sequence[Float[Tensor, "_ K"]],
    boxes_of: Callable[[int, Int[Tensor, " M"]], Float[Tensor, "M 4"]],
    selection: Selection,
    factors: tuple[float, float],
    qualities: Sequence[Float[Tensor, " _"]] | None = None,
) -> BoxCandidates:
    """Choose candidates of each level, and decode their boxes only.

    Args:
        logits: Class logits of each level of one image.
        boxes_of: Decodes the boxes of some anchors of a level.
        selection: How detections are chosen.
        factors: x and y of the boxes are divided by these before the suppression, as published.
        qualities: Factor of the scores of each anchor, or None.
    """
    boxes, scores, labels = [], [], []
    for level, level_logits in enumerate(logits):
        found = best_candidates(
            level_logits,
            None if qualities is None else qualities[level],
            rule=selection.rule,
            count=selection.candidates_per_level,
            threshold=selection.score_threshold,
        )
        # An anchor that stands for several classes is decoded once.
        unique, place = found.anchors.unique(return_inverse=True)
        boxes.append(boxes_of(level, unique)[place])
        scores.append(found.scores)
        labels.append(found.labels)
    return BoxCandidates(
        scale_boxes(torch.cat(boxes), factors),
        torch.cat(scores),
        torch.cat(labels),
        iou=selection.nms_iou,
        max_detections=selection.max_detections,
    )


class NormedTower(nn.Module):
    """Convolutions, each with group norm and ReLU.

    Args:
        channels: Channels of the map, before and behind.
        depth: Number of convolutions.

    Raises:
        ZigguratError: If the groups of the norm do not divide the channels.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        if channels % GROUPS:
            raise ZigguratError(
                f"the width of an ATSS or GFL head must be a multiple of {GROUPS}, the groups of "
                f"its norms, got {channels}; choose another head_channels"
            )
        self.convs = nn.ModuleList(
            ConvNorm(channels, channels, 3, norm=_group_norm) for _ in range(depth)
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return a map of the same size."""
        for conv in self.convs:
            x = conv(x).relu_()
        return x


def _group_norm(channels: int) -> nn.Module:
    # A group of a single channel would leave nothing of a map of a single cell.
    return nn.GroupNorm(GROUPS if channels > GROUPS else GROUPS // 2, channels)


def map_size(level: Tensor) -> ImageSize:
    """Return height and width of a map."""
    return level.shape[2], level.shape[3]


def by_anchor(levels: Sequence[Tensor], width: int) -> list[Float[Tensor, "B _ width"]]:
    """View (B, A * width, h, w) maps as one row an anchor, in the order of the anchors."""
    return [level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, width) for level in levels]


def anchors_of(
    maps: Sequence[Tensor], strides: Sequence[int], grid: AnchorGrid
) -> list[Float[Tensor, "_ 4"]]:
    """Return the anchors of each level."""
    return [
        grid.level(map_size(level), stride, level.device)
        for level, stride in zip(maps, strides, strict=True)
    ]


def counted_anchors(
    maps: Sequence[Tensor], strides: Sequence[int], grid: AnchorGrid, image_size: ImageSize
) -> list[Bool[Tensor, " _"]]:
    """Mark the anchors of each level that count: on the image or on its own padding.

    Published systems pad an image to multiples of 32; what pads it to the size of its neighbours in
    the batch is ignored.

    Args:
        maps: Maps of the levels.
        strides: Their strides.
        grid: Anchors of a cell.
        image_size: Height and width of the image without its padding.
    """
    counted = aligned_size(image_size, SIZE_DIVISOR)
    return [
        grid.valid(map_size(level), stride, counted, level.device)
        for level, stride in zip(maps, strides, strict=True)
    ]
