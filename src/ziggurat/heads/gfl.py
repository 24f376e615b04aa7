"""GFL's head (Li et al., Generalized Focal Loss, arXiv:2006.04388).

Two ideas: the class score itself is taught how good the box is (its IoU with the object), so no
second score must be multiplied to it; and each edge of a box is not one number but a distribution
over whole distances, whose mean is the edge, so that a blurred border may stay uncertain.

Shapes: B images, K classes, one point a cell, N = sum over levels of h * w points, P foreground.
"""

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

from ziggurat.heads.dense import (
    PRIOR,
    NormedTower,
    Selection,
    anchors_of,
    by_anchor,
    counted_anchors,
    select_candidates,
)
from ziggurat.losses.background_focal import background_focal_loss
from ziggurat.losses.quality_focal import distribution_focal_loss, quality_focal_loss
from ziggurat.ops.anchors import AnchorGrid
from ziggurat.ops.atss_matching import match_by_statistics
from ziggurat.ops.boxes import clip_boxes, paired_iou
from ziggurat.ops.matching import IGNORED
from ziggurat.ops.nms import HARD, BoxCandidates, Suppression
from ziggurat.ops.precision import without_autocast
from ziggurat.ops.processes import mean_over_processes
from ziggurat.types import Detections, ImageSize, check_same_length, scale_between

ANCHORS = AnchorGrid(scales=(8.0,), ratios=(1.0,))
"""Of the anchors only the centres count, once they are matched."""
MAX_DISTANCE = 16
"""Farthest edge from the centre, in strides; there are 17 whole distances from 0 on."""
INSIDE = 0.1
"""True distances end this much before the last one, so that they lie between two."""
BOX_WEIGHT = 2.0
DISTRIBUTION_WEIGHT = 0.25
GFL_SELECTION = Selection(nms_iou=0.6)


class GFLOutput(NamedTuple):
    """Raw output, one map a level, fine to coarse.

    Attributes:
        cls_logits: (B, K, h, w).
        edges: (B, 4 * 17, h, w), logits of the distances to the left, top, right, bottom edge.
    """

    cls_logits: list[Tensor]
    edges: list[Tensor]


class GFLHead(nn.Module):
    """Classify every point and say how far from it the edges of its object are.

    Args:
        in_channels: Channels of every level, a multiple of 32.
        strides: Stride of every level.
        num_classes: Number of foreground classes K.
        depth: Convolutions of each tower.
        selection: How detections are chosen.
    """

    def __init__(
        self,
        in_channels: int,
        strides: Sequence[int],
        num_classes: int,
        *,
        depth: int = 4,
        selection: Selection = GFL_SELECTION,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.num_classes = num_classes
        self.selection = selection
        self.cls_tower = NormedTower(in_channels, depth)
        self.reg_tower = NormedTower(in_channels, depth)
        self.cls_logits = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.edges = nn.Conv2d(in_channels, 4 * (MAX_DISTANCE + 1), 3, padding=1)
        # Not learned, but in the published files, whose values are taken.
        self.distances: Tensor
        self.register_buffer("distances", torch.arange(MAX_DISTANCE + 1.0))
        self.scales = nn.ParameterList(nn.Parameter(torch.tensor(1.0)) for _ in self.strides)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.cls_logits.bias, -log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, features: Sequence[Float[Tensor, "B C _ _"]]) -> GFLOutput:
        """Predict class logits and distributions of the edges for every level."""
        raw = GFLOutput([], [])
        for level, scale in zip(features, self.scales, strict=True):
            raw.cls_logits.append(self.cls_logits(self.cls_tower(level)))
            raw.edges.append(self.edges(self.reg_tower(level)).float() * scale)
        return raw

    def loss(
        self, raw: GFLOutput, targets: Sequence[Detections], image_sizes: Sequence[ImageSize]
    ) -> dict[str, Tensor]:
        """Return the losses of classes, boxes and distributions.

        A point's box counts as much as its best class score; these weights and the number of
        foreground points are means over the processes of a training, and at least 1.

        Args:
            raw: What `forward` returned.
            targets: True objects of each image, in pixels of the padded image.
            image_sizes: Height and width of each image without its padding.
        """
        check_same_length(
            "loss", targets=targets, image_sizes=image_sizes, images=raw.cls_logits[0]
        )
        anchors = anchors_of(raw.cls_logits, self.strides, ANCHORS)
        strides = torch.cat(
            [torch.full_like(a[:, :1], s) for a, s in zip(anchors, self.strides, strict=True)]
        )
        points = _centers(torch.cat(anchors)) / strides
        logits = torch.cat(by_anchor(raw.cls_logits, self.num_classes), dim=1).float()
        edges = torch.cat(by_anchor(raw.edges, 4 * (MAX_DISTANCE + 1)), dim=1).float()
        matches = torch.stack(
            [self.match(raw, t, size) for t, size in zip(targets, image_sizes, strict=True)]
        )
        images, cells = (matches >= 0).nonzero(as_tuple=True)
        boxes = [t.boxes[m[m >= 0]] for t, m in zip(targets, matches, strict=True)]
        labels = torch.cat([t.labels[m[m >= 0]] for t, m in zip(targets, matches, strict=True)])
        num_foreground = sum(max(len(one), 1) for one in boxes)
        divisor = mean_over_processes(logits.new_tensor(float(num_foreground))).clamp(min=1)
        # From here on in strides, so that objects of all levels weigh the same.
        true_boxes = torch.cat(boxes) / strides[cells]
        distributions = edges[images, cells]
        found = _boxes(points[cells], _expectation(distributions, self.distances))
        own = logits[images, cells, labels]
        qualities = paired_iou(found.detach(), true_boxes)
        flat, counted = logits.flatten(0, 1), (matches != IGNORED).flatten()
        # The background's loss at the true classes is taken back where the quality is wanted.
        classification = (
            background_focal_loss(flat, counted, gamma=2.0)
            - quality_focal_loss(own, torch.zeros_like(own), beta=2.0)
            + quality_focal_loss(own, qualities, beta=2.0)
        )
        weights = logits[images, cells].detach().amax(dim=1).sigmoid()
        weight_sum = mean_over_processes(weights.sum()).clamp(min=1)
        box = generalized_box_iou_loss(found, true_boxes, reduction="none") * weights
        spread = distribution_focal_loss(
            distributions.reshape(-1, MAX_DISTANCE + 1),
            _distances(points[cells], true_boxes).flatten(),
        ).view(-1, 4)
        nothing = edges.sum() * 0  # keeps the tower in the graph of a batch without objects
        return {
            "classification": classification / divisor,
            "box": BOX_WEIGHT * (box.sum() + nothing) / weight_sum,
            "distribution": DISTRIBUTION_WEIGHT
            * (spread * weights[:, None]).sum()
            / (4 * weight_sum),
        }

    def match(self, raw: GFLOutput, target: Detections, image_size: ImageSize) -> Int[Tensor, " N"]:
        """Give each point its object.

        Args:
            raw: What `forward` returned.
            target: True objects of the image.
            image_size: Height and width of the image without its padding.
        """
        maps = raw.cls_logits
        return match_by_statistics(
            anchors_of(maps, self.strides, ANCHORS),
            counted_anchors(maps, self.strides, ANCHORS, image_size),
            target.boxes,
        )

    def decode(
        self,
        raw: GFLOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
        suppression: Suppression = HARD,
    ) -> list[Detections]:
        """Return the detections of each image, best first.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding; boxes are cut there.
            original_sizes: Sizes before resizing. Where given, boxes are in pixels of the
                original images.
            suppression: What is done about duplicates.
        """
        found = self.candidates(raw, image_sizes, original_sizes)
        return [candidates.suppress(suppression) for candidates in found]

    def candidates(
        self,
        raw: GFLOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
    ) -> list[BoxCandidates]:
        """Return what may be a detection of each image, duplicates included.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding; boxes are cut there.
            original_sizes: Sizes before resizing. Where given, boxes are in pixels of the
                original images.
        """
        original_sizes = image_sizes if original_sizes is None else original_sizes
        check_same_length(
            "decode",
            image_sizes=image_sizes,
            original_sizes=original_sizes,
            images=raw.cls_logits[0],
        )
        anchors = anchors_of(raw.cls_logits, self.strides, ANCHORS)
        logits = by_anchor(raw.cls_logits, self.num_classes)
        edges = by_anchor(raw.edges, 4 * (MAX_DISTANCE + 1))
        results = []
        for i, (size, original) in enumerate(zip(image_sizes, original_sizes, strict=True)):

            def boxes_of(level: int, chosen: Tensor, i: int = i, size: ImageSize = size) -> Tensor:
                distances = (
                    _expectation(edges[level][i, chosen].float(), self.distances)
                    * self.strides[level]
                )
                return clip_boxes(_boxes(_centers(anchors[level][chosen]), distances), size)

            results.append(
                select_candidates(
                    [level[i].float() for level in logits],
                    boxes_of,
                    self.selection,
                    scale_between(size, original),
                )
            )
        return results


def _centers(anchors: Float[Tensor, "N 4"]) -> Float[Tensor, "N 2"]:
    return (anchors[:, :2] + anchors[:, 2:]) / 2


def _expectation(
    edges: Float[Tensor, "P bins"], distances: Float[Tensor, " D"]
) -> Float[Tensor, "P 4"]:
    """Mean distance of each edge (eq. 4 of the paper)."""
    probability = edges.view(-1, 4, MAX_DISTANCE + 1).softmax(dim=2)
    with without_autocast(edges.device):
        return probability @ distances.to(edges.dtype)


def _boxes(points: Float[Tensor, "P 2"], distances: Float[Tensor, "P 4"]) -> Float[Tensor, "P 4"]:
    return torch.cat([points - distances[:, :2], points + distances[:, 2:]], dim=1)


def _distances(points: Float[Tensor, "P 2"], boxes: Float[Tensor, "P 4"]) -> Float[Tensor, "P 4"]:
    distances = torch.cat([points - boxes[:, :2], boxes[:, 2:] - points], dim=1)
    return distances.clamp(0, MAX_DISTANCE - INSIDE)
