"""RetinaNet's head (Lin et al., arXiv:1708.02002).

Two small towers of convolutions, shared by all levels: one says for every anchor which class it
holds, the other how to move it onto the object. The focal loss lets it learn from all anchors at
once, though nearly all of them are background.

Shapes: B images, K classes, A anchors a cell, N = sum over levels of A * h * w anchors.
"""

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ziggurat.heads.dense import (
    PRIOR,
    Selection,
    anchors_of,
    by_anchor,
    counted_anchors,
    select_candidates,
)
from ziggurat.losses.background_focal import background_focal_loss
from ziggurat.losses.focal import sparse_focal_loss
from ziggurat.ops.anchors import AnchorGrid
from ziggurat.ops.boxes import decode_deltas, encode_deltas
from ziggurat.ops.matching import IGNORED, match_by_iou
from ziggurat.ops.nms import HARD, BoxCandidates, Suppression
from ziggurat.types import Detections, ImageSize, check_same_length, scale_between

ANCHORS = AnchorGrid(
    scales=(4.0, 4.0 * 2 ** (1 / 3), 4.0 * 2 ** (2 / 3)),
    ratios=(0.5, 1.0, 2.0),
)
RETINANET_SELECTION = Selection()


class RetinaNetOutput(NamedTuple):
    """Raw output, one map a level, fine to coarse.

    Attributes:
        cls_logits: (B, A * K, h, w), classes vary faster than anchors.
        box_deltas: (B, A * 4, h, w), relative to the anchors.
    """

    cls_logits: list[Tensor]
    box_deltas: list[Tensor]


class RetinaNetHead(nn.Module):
    """Classify and move nine anchors in every cell.

    Args:
        in_channels: Channels of every level.
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
        selection: Selection = RETINANET_SELECTION,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.num_classes = num_classes
        self.selection = selection
        self.cls_convs = _tower(in_channels, depth)
        self.reg_convs = _tower(in_channels, depth)
        anchors = ANCHORS.num_anchors
        self.cls_logits = nn.Conv2d(in_channels, anchors * num_classes, 3, padding=1)
        self.box_deltas = nn.Conv2d(in_channels, anchors * 4, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.cls_logits.bias, -log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, features: Sequence[Float[Tensor, "B C _ _"]]) -> RetinaNetOutput:
        """Predict logits and deltas for every level."""
        cls_logits, box_deltas = [], []
        for level in features:
            x = y = level
            for conv in self.cls_convs:
                x = conv(x).relu_()
            for conv in self.reg_convs:
                y = conv(y).relu_()
            cls_logits.append(self.cls_logits(x))
            box_deltas.append(self.box_deltas(y))
        return RetinaNetOutput(cls_logits, box_deltas)

    def loss(
        self,
        raw: RetinaNetOutput,
        targets: Sequence[Detections],
        image_sizes: Sequence[ImageSize],
    ) -> dict[str, Tensor]:
        """Return focal loss and L1 of the deltas, both divided by the foreground anchors.

        The number of foreground anchors is that of all images of this process together, each
        counting at least one.

        Args:
            raw: What `forward` returned.
            targets: True objects of each image, in pixels of the padded image.
            image_sizes: Height and width of each image without its padding. Anchors count where
                the image lies or its own padding, to multiples of 32; published systems ignore
                what pads it to the size of its neighbours in the batch.
        """
        check_same_length(
            "loss", targets=targets, image_sizes=image_sizes, images=raw.cls_logits[0]
        )
        anchors = torch.cat(anchors_of(raw.cls_logits, self.strides, ANCHORS))
        logits = torch.cat(by_anchor(raw.cls_logits, self.num_classes), dim=1).float()
        deltas = torch.cat(by_anchor(raw.box_deltas, 4), dim=1).float()
        matches = torch.stack(
            [
                self._match(raw, anchors, target, size)
                for target, size in zip(targets, image_sizes, strict=True)
            ]
        )
        foreground = matches >= 0
        normalizer = foreground.sum(dim=1).clamp(min=1).sum()
        classification = 0.75 * background_focal_loss(
            logits.flatten(0, 1), (matches != IGNORED).flatten(), gamma=2.0
        )
        box_loss = deltas.sum() * 0  # keeps the tower in the graph of a batch without objects
        for i, target in enumerate(targets):
            cells = foreground[i].nonzero().flatten()
            objects = matches[i, cells]
            own = logits[i, cells, target.labels[objects]]
            classification = classification + sparse_focal_loss(own, alpha=0.25, gamma=2.0)
            goal = encode_deltas(anchors[cells], target.boxes[objects])
            box_loss = box_loss + (deltas[i, cells] - goal).abs().sum()
        return {"classification": classification / normalizer, "box": box_loss / normalizer}

    def _match(
        self,
        raw: RetinaNetOutput,
        anchors: Float[Tensor, "N 4"],
        target: Detections,
        image_size: ImageSize,
    ) -> Int[Tensor, " N"]:
        """Match the anchors that count; the others are ignored."""
        counted = torch.cat(counted_anchors(raw.cls_logits, self.strides, ANCHORS, image_size))
        matches = torch.full((len(anchors),), IGNORED, device=anchors.device)
        matches[counted] = match_by_iou(
            anchors[counted], target.boxes, foreground_iou=0.5, background_iou=0.4
        )
        return matches

    def decode(
        self,
        raw: RetinaNetOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
        suppression: Suppression = HARD,
    ) -> list[Detections]:
        """Return the detections of each image, best first.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding; boxes are cut there.
            original_sizes: Sizes before resizing. Where given, boxes are in pixels of the
                original images, scaled before suppression as the published systems do.
            suppression: What is done about duplicates.
        """
        found = self.candidates(raw, image_sizes, original_sizes)
        return [candidates.suppress(suppression) for candidates in found]

    def candidates(
        self,
        raw: RetinaNetOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
    ) -> list[BoxCandidates]:
        """Return what may be a detection of each image, duplicates included.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding; boxes are cut there.
            original_sizes: Sizes before resizing. Where given, boxes are in pixels of the
                original images, scaled before suppression as the published systems do.
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
        results = []
        for i, (size, original) in enumerate(zip(image_sizes, original_sizes, strict=True)):

            def boxes_of(level: int, chosen: Tensor, i: int = i, size: ImageSize = size) -> Tensor:
                moves = deltas[level][i, chosen].float()
                return decode_deltas(anchors[level][chosen], moves, size)

            results.append(
                select_candidates(
                    [level[i].float() for level in logits],
                    boxes_of,
                    self.selection,
                    scale_between(size, original),
                )
            )
        return results


def _tower(channels: int, depth: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth))
