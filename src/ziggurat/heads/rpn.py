"""Region proposal network (Ren et al., Faster R-CNN, arXiv:1506.01497, section 3.1).

A small network slides over every level and says of each anchor whether it holds an object, of
whatever class, and how to move it there. Its best boxes are what the second stage looks at.

Shapes: B images, A anchors a cell, N anchors of all levels, P proposals of an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.ops import batched_nms

from ziggurat.heads.dense import anchors_of, by_anchor, counted_anchors
from ziggurat.ops.anchors import AnchorGrid
from ziggurat.ops.boxes import decode_deltas, encode_deltas
from ziggurat.ops.matching import IGNORED, match_by_iou
from ziggurat.ops.ranking import best_indices
from ziggurat.ops.sampling import draw_balanced
from ziggurat.types import Detections, ImageSize, check_same_length

ANCHORS = AnchorGrid(scales=(8.0,), ratios=(0.5, 1.0, 2.0))
PROPOSAL_NMS_IOU = 0.7
NUM_CANDIDATES = {True: 2000, False: 1000}
"""Anchors of a level, best first, that become proposals: in training and in prediction."""
SAMPLES = 256
"""Anchors of an image that are trained on."""
FOREGROUND_SHARE = 0.5


class RPNOutput(NamedTuple):
    """Raw output, one map a level, fine to coarse.

    Attributes:
        objectness: (B, A, h, w), logits.
        box_deltas: (B, A * 4, h, w), relative to the anchors.
    """

    objectness: list[Tensor]
    box_deltas: list[Tensor]


@dataclass(frozen=True)
class RPNSettings:
    """Where the published systems differ.

    Attributes:
        num_proposals_trained: Proposals of an image in training.
        is_inside_only: Whether anchors that leave the image are not trained on.
        drops_empty: Whether boxes that the border of the image leaves nothing of are dropped;
            P2T's detectors were trained with an edition that keeps them.
        box_beta: Where the box loss turns from a square to a line; 0 is an L1 loss.
        anchors: Anchors of each cell.
    """

    num_proposals_trained: int = 1000
    is_inside_only: bool = False
    drops_empty: bool = True
    box_beta: float = 0.0
    anchors: AnchorGrid = ANCHORS


class RPN(nn.Module):
    """Propose regions of any class.

    Args:
        in_channels: Channels of every level.
        strides: Stride of every level.
        settings: Where the published systems differ.
    """

    def __init__(
        self, in_channels: int, strides: Sequence[int], settings: RPNSettings | None = None
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.settings = settings or RPNSettings()
        self.num_samples = SAMPLES
        self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        num_anchors = self.settings.anchors.num_anchors
        self.objectness = nn.Conv2d(in_channels, num_anchors, 1)
        self.box_deltas = nn.Conv2d(in_channels, num_anchors * 4, 1)
        for module in (self.conv, self.objectness, self.box_deltas):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Float[Tensor, "B C _ _"]]) -> RPNOutput:
        """Predict objectness and deltas for every level."""
        hidden = [self.conv(level).relu_() for level in levels]
        return RPNOutput([self.objectness(x) for x in hidden], [self.box_deltas(x) for x in hidden])

    def loss(
        self,
        raw: RPNOutput,
        targets: Sequence[Detections],
        image_sizes: Sequence[ImageSize],
    ) -> dict[str, Tensor]:
        """Return the losses of objectness and boxes, both divided by the number of samples.

        Args:
            raw: What `forward` returned.
            targets: True objects of each image, in pixels of the padded image.
            image_sizes: Height and width of each image without its padding.
        """
        check_same_length(
            "loss", targets=targets, image_sizes=image_sizes, images=raw.objectness[0]
        )
        anchors = torch.cat(anchors_of(raw.objectness, self.strides, self.settings.anchors))
        logits = torch.cat(by_anchor(raw.objectness, 1), dim=1).float()
        deltas = torch.cat(by_anchor(raw.box_deltas, 4), dim=1).float()
        objectness = logits.sum() * 0
        box = deltas.sum() * 0
        num_samples = 0
        for i, (target, size) in enumerate(zip(targets, image_sizes, strict=True)):
            matches = self.match(raw, anchors, target, size)
            foreground, background = draw_balanced(matches, self.num_samples, FOREGROUND_SHARE)
            chosen = torch.cat([foreground, background])
            wanted = torch.zeros(len(chosen), device=logits.device)
            wanted[: len(foreground)] = 1
            objectness = objectness + F.binary_cross_entropy_with_logits(
                logits[i, chosen, 0], wanted, reduction="sum"
            )
            goal = encode_deltas(anchors[foreground], target.boxes[matches[foreground]])
            # A beta of 0 is plain L1.
            box = box + F.smooth_l1_loss(
                deltas[i, foreground], goal, reduction="sum", beta=self.settings.box_beta
            )
            num_samples += max(len(foreground), 1) + max(len(background), 1)
        return {"rpn_objectness": objectness / num_samples, "rpn_box": box / num_samples}

    def match(
        self, raw: RPNOutput, anchors: Float[Tensor, "N 4"], target: Detections, size: ImageSize
    ) -> Int[Tensor, " N"]:
        """Give each anchor its object; those that do not count are ignored.

        Args:
            raw: What `forward` returned.
            anchors: Anchors of all levels.
            target: True objects of the image.
            size: Height and width of the image without its padding.
        """
        counted = self._is_counted(raw, anchors, size)
        matches = torch.full((len(anchors),), IGNORED, device=anchors.device)
        matches[counted] = match_by_iou(
            anchors[counted],
            target.boxes,
            foreground_iou=0.7,
            background_iou=0.3,
            least_forced_iou=0.3,
        )
        return matches

    def _is_counted(
        self, raw: RPNOutput, anchors: Float[Tensor, "N 4"], size: ImageSize
    ) -> Bool[Tensor, " N"]:
        counted = torch.cat(
            counted_anchors(raw.objectness, self.strides, self.settings.anchors, size)
        )
        if self.settings.is_inside_only:
            right, bottom = anchors[:, 2], anchors[:, 3]
            if self.settings.anchors.is_rounded:
                # Detectron's end at their last pixel, one before ours: those that touch the border
                # of the image are inside. In MMDetection they are not.
                right, bottom = right - 1, bottom - 1
            counted &= (anchors[:, :2] >= 0).all(dim=1) & (right < size[1]) & (bottom < size[0])
        return counted

    @torch.no_grad()
    def propose(
        self, raw: RPNOutput, image_sizes: Sequence[ImageSize], *, is_training: bool
    ) -> list[Float[Tensor, "_ 5"]]:
        """Return x1, y1, x2, y2 and objectness of the best regions of each image, best first.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding; boxes are cut there.
            is_training: Whether the limits of training hold.
        """
        count = NUM_CANDIDATES[is_training]
        limit = self.settings.num_proposals_trained if is_training else 1000
        all_anchors = anchors_of(raw.objectness, self.strides, self.settings.anchors)
        proposals = []
        for i, size in enumerate(image_sizes):
            boxes, scores, numbers = [], [], []
            objectness = by_anchor([level[i : i + 1] for level in raw.objectness], 1)
            deltas = by_anchor([level[i : i + 1] for level in raw.box_deltas], 4)
            for number, anchors in enumerate(all_anchors):
                score = objectness[number][0, :, 0].float().sigmoid()
                best = best_indices(score, count)
                chosen = deltas[number][0, best].float()
                boxes.append(decode_deltas(anchors[best], chosen, size))
                scores.append(score[best])
                numbers.append(torch.full_like(best, number))
            rows = torch.cat([torch.cat(boxes), torch.cat(scores)[:, None]], dim=1)
            level_of = torch.cat(numbers)
            if self.settings.drops_empty:
                has_area = (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])
                rows, level_of = rows[has_area], level_of[has_area]
            keep = batched_nms(rows[:, :4], rows[:, 4], level_of, PROPOSAL_NMS_IOU)
            proposals.append(rows[keep[:limit]])
        return proposals
