"""ATSS's head (Zhang et al., arXiv:1912.02424).

One square anchor in a cell is enough where each object chooses its anchors by the statistics of
their overlaps (`ops/atss_matching.py`). Besides class and box, the head says how central an anchor
lies in its object, and off-centre anchors, whose boxes are worse, count less.

Shapes: B images, K classes, one anchor a cell, N = sum over levels of h * w anchors, P foreground.
"""

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import torch
import torch.nn.functional as F
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
from ziggurat.losses.focal import sparse_focal_loss
from ziggurat.ops.anchors import AnchorGrid
from ziggurat.ops.atss_matching import match_by_statistics
from ziggurat.ops.boxes import Stds, decode_deltas
from ziggurat.ops.matching import IGNORED
from ziggurat.ops.nms import HARD, BoxCandidates, Suppression
from ziggurat.ops.processes import mean_over_processes
from ziggurat.types import Detections, ImageSize, check_same_length, scale_between

ANCHORS = AnchorGrid(scales=(8.0,), ratios=(1.0,))
STDS: Stds = (0.1, 0.1, 0.2, 0.2)
BOX_WEIGHT = 2.0
ATSS_SELECTION = Selection(nms_iou=0.6)


class ATSSOutput(NamedTuple):
    """Raw output, one map a level, fine to coarse.

    Attributes:
        cls_logits: (B, K, h, w).
        box_deltas: (B, 4, h, w), relative to the anchors.
        centerness: (B, 1, h, w), logits.
    """

    cls_logits: list[Tensor]
    box_deltas: list[Tensor]
    centerness: list[Tensor]


class ATSSHead(nn.Module):
    """Classify and move one anchor in every cell, and say how central it is.

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
        selection: Selection = ATSS_SELECTION,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.num_classes = num_classes
        self.selection = selection
        self.cls_tower = NormedTower(in_channels, depth)
        self.reg_tower = NormedTower(in_channels, depth)
        self.cls_logits = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.box_deltas = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(in_channels, 1, 3, padding=1)
        self.scales = nn.ParameterList(nn.Parameter(torch.tensor(1.0)) for _ in self.strides)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.cls_logits.bias, -log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, features: Sequence[Float[Tensor, "B C _ _"]]) -> ATSSOutput:
        """Predict logits, deltas and centerness for every level."""
        raw = ATSSOutput([], [], [])
        for level, scale in zip(features, self.scales, strict=True):
            x, y = self.cls_tower(level), self.reg_tower(level)
            raw.cls_logits.append(self.cls_logits(x))
            raw.box_deltas.append(self.box_deltas(y) * scale)
            raw.centerness.append(self.centerness(y))
        return raw

    def loss(
        self, raw: ATSSOutput, targets: Sequence[Detections], image_sizes: Sequence[ImageSize]
    ) -> dict[str, Tensor]:
        """Return the losses of classes, boxes and centerness, each with its own divisor.

        All divisors are means over the processes of a training and at least 1.

        Args:
            raw: What `forward` returned.
            targets: True objects of each image, in pixels of the padded image.
            image_sizes: Height and width of each image without its padding.
        """
        check_same_length(
            "loss", targets=targets, image_sizes=image_sizes, images=raw.cls_logits[0]
        )
        anchors = torch.cat(anchors_of(raw.cls_logits, self.strides, ANCHORS))
        logits = torch.cat(by_anchor(raw.cls_logits, self.num_classes), dim=1).float()
        deltas = torch.cat(by_anchor(raw.box_deltas, 4), dim=1).float()
        centerness = torch.cat(by_anchor(raw.centerness, 1), dim=1).float()[..., 0]
        matches = torch.stack(
            [self.match(raw, t, size) for t, size in zip(targets, image_sizes, strict=True)]
        )
        images, cells = (matches >= 0).nonzero(as_tuple=True)
        boxes = [t.boxes[m[m >= 0]] for t, m in zip(targets, matches, strict=True)]
        labels = [t.labels[m[m >= 0]] for t, m in zip(targets, matches, strict=True)]
        true_boxes, true_labels = torch.cat(boxes), torch.cat(labels)
        num_foreground = sum(max(len(one), 1) for one in boxes)
        divisor = mean_over_processes(logits.new_tensor(float(num_foreground))).clamp(min=1)
        classification = 0.75 * background_focal_loss(
            logits.flatten(0, 1), (matches != IGNORED).flatten(), gamma=2.0
        ) + sparse_focal_loss(logits[images, cells, true_labels], alpha=0.25, gamma=2.0)
        goal = _centerness(anchors[cells], true_boxes)
        found = decode_deltas(anchors[cells], deltas[images, cells], None, STDS)
        box = generalized_box_iou_loss(found, true_boxes, reduction="none") * goal
        box_divisor = mean_over_processes(goal.sum()).clamp(min=1)
        central = F.binary_cross_entropy_with_logits(
            centerness[images, cells], goal, reduction="sum"
        )
        # Keeps all branches in the graph of a batch without objects.
        nothing = (deltas.sum() + centerness.sum()) * 0
        return {
            "classification": classification / divisor,
            "box": BOX_WEIGHT * (box.sum() + nothing) / box_divisor,
            "centerness": central / divisor,
        }

    def match(
        self, raw: ATSSOutput, target: Detections, image_size: ImageSize
    ) -> Int[Tensor, " N"]:
        """Give each anchor its object.

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
        raw: ATSSOutput,
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
        raw: ATSSOutput,
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
        deltas = by_anchor(raw.box_deltas, 4)
        centerness = by_anchor(raw.centerness, 1)
        results = []
        for i, (size, original) in enumerate(zip(image_sizes, original_sizes, strict=True)):

            def boxes_of(level: int, chosen: Tensor, i: int = i, size: ImageSize = size) -> Tensor:
                moves = deltas[level][i, chosen].float()
                return decode_deltas(anchors[level][chosen], moves, size, STDS)

            results.append(
                select_candidates(
                    [level[i].float() for level in logits],
                    boxes_of,
                    self.selection,
                    scale_between(size, original),
                    [level[i, :, 0].float().sigmoid() for level in centerness],
                )
            )
        return results


def _centerness(anchors: Float[Tensor, "P 4"], boxes: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
    """1 in the middle of the object, 0 at its border (Tian et al., arXiv:1904.01355, eq. 3)."""
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    before, behind = centers - boxes[:, :2], boxes[:, 2:] - centers
    ratios = torch.minimum(before, behind) / torch.maximum(before, behind)
    return ratios.prod(dim=1).sqrt()
