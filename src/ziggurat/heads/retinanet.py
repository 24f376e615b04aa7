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

from ziggurat.losses.focal import sigmoid_focal_loss
from ziggurat.ops.anchors import SIZE_DIVISOR, AnchorGrid, pad_to_multiple
from ziggurat.ops.boxes import decode_deltas, encode_deltas, scale_boxes
from ziggurat.ops.matching import IGNORED, match_by_iou
from ziggurat.ops.nms import suppress
from ziggurat.types import Detections, ImageSize, check_same_length, scale_between

ANCHORS = AnchorGrid(
    scales=(4.0, 4.0 * 2 ** (1 / 3), 4.0 * 2 ** (2 / 3)),
    ratios=(0.5, 1.0, 2.0),
)
PRIOR = 0.01
"""Probability of foreground that the classification starts from (paper, section 4.1)."""


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
        score_threshold: Least score of a detection.
        nms_iou: Detections of one class that overlap more are duplicates.
        candidates_per_level: Anchors of a level, best first, that enter the suppression.
        max_detections: Detections of an image.
    """

    def __init__(
        self,
        in_channels: int,
        strides: Sequence[int],
        num_classes: int,
        *,
        depth: int = 4,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        candidates_per_level: int = 1000,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.num_classes = num_classes
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        self.candidates_per_level = candidates_per_level
        self.max_detections = max_detections
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
                x = conv(x).relu()
            for conv in self.reg_convs:
                y = conv(y).relu()
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
        check_same_length("loss", targets=targets, image_sizes=image_sizes)
        anchors = self._anchors(raw)
        all_anchors = torch.cat(anchors)
        logits = torch.cat(_by_anchor(raw.cls_logits, self.num_classes), dim=1).float()
        deltas = torch.cat(_by_anchor(raw.box_deltas, 4), dim=1).float()
        matches = torch.stack(
            [
                self._match(raw, all_anchors, target, size)
                for target, size in zip(targets, image_sizes, strict=True)
            ]
        )
        foreground = matches >= 0
        normalizer = foreground.sum(dim=1).clamp(min=1).sum()
        wanted = torch.zeros_like(logits)
        box_loss = deltas.sum() * 0  # keeps the tower in the graph of a batch without objects
        for i, target in enumerate(targets):
            mine = foreground[i]
            objects = matches[i][mine]
            wanted[i, mine, target.labels[objects]] = 1.0
            goal = encode_deltas(all_anchors[mine], target.boxes[objects])
            box_loss = box_loss + (deltas[i][mine] - goal).abs().sum()
        counted = matches != IGNORED
        classification = sigmoid_focal_loss(logits[counted], wanted[counted], alpha=0.25, gamma=2.0)
        return {"classification": classification / normalizer, "box": box_loss / normalizer}

    def _match(
        self,
        raw: RetinaNetOutput,
        anchors: Float[Tensor, "N 4"],
        target: Detections,
        image_size: ImageSize,
    ) -> Int[Tensor, " N"]:
        """Match the anchors that count; the others are ignored."""
        counted = pad_to_multiple(image_size, SIZE_DIVISOR)
        on_image = torch.cat(
            [
                ANCHORS.valid(_map_size(logits), stride, counted, anchors.device)
                for logits, stride in zip(raw.cls_logits, self.strides, strict=True)
            ]
        )
        matches = torch.full((len(anchors),), IGNORED, device=anchors.device)
        matches[on_image] = _match(anchors[on_image], target)
        return matches

    def decode(
        self,
        raw: RetinaNetOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
    ) -> list[Detections]:
        """Return the detections of each image, best first.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding; boxes are cut there.
            original_sizes: Sizes before resizing. Where given, boxes are in pixels of the
                original images, scaled before suppression as the published systems do.
        """
        original_sizes = image_sizes if original_sizes is None else original_sizes
        check_same_length("decode", image_sizes=image_sizes, original_sizes=original_sizes)
        anchors = self._anchors(raw)
        scores = [level.float().sigmoid() for level in _by_anchor(raw.cls_logits, self.num_classes)]
        deltas = [level.float() for level in _by_anchor(raw.box_deltas, 4)]
        results = []
        for i, (image_size, original) in enumerate(zip(image_sizes, original_sizes, strict=True)):
            boxes_of_levels, scores_of_levels = [], []
            for level_anchors, level_scores, level_deltas in zip(
                anchors, scores, deltas, strict=True
            ):
                # The best anchors by their best class, all their classes with them.
                count = min(self.candidates_per_level, len(level_anchors))
                best = level_scores[i].amax(dim=1).topk(count).indices
                boxes_of_levels.append(
                    decode_deltas(level_anchors[best], level_deltas[i][best], image_size)
                )
                scores_of_levels.append(level_scores[i][best])
            boxes = scale_boxes(torch.cat(boxes_of_levels), scale_between(image_size, original))
            results.append(self._select(boxes, torch.cat(scores_of_levels)))
        return results

    def _select(self, boxes: Float[Tensor, "M 4"], scores: Float[Tensor, "M K"]) -> Detections:
        """Suppress duplicates among all (anchor, class) pairs above the threshold."""
        candidates, labels = (scores > self.score_threshold).nonzero(as_tuple=True)
        return suppress(
            boxes[candidates],
            scores[candidates, labels],
            labels,
            iou=self.nms_iou,
            max_detections=self.max_detections,
        )

    def _anchors(self, raw: RetinaNetOutput) -> list[Float[Tensor, "_ 4"]]:
        return [
            ANCHORS.level(_map_size(logits), stride, logits.device)
            for logits, stride in zip(raw.cls_logits, self.strides, strict=True)
        ]


def _match(anchors: Float[Tensor, "N 4"], target: Detections) -> Int[Tensor, " N"]:
    return match_by_iou(anchors, target.boxes, foreground_iou=0.5, background_iou=0.4)


def _tower(channels: int, depth: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth))


def _map_size(level: Tensor) -> ImageSize:
    return level.shape[2], level.shape[3]


def _by_anchor(levels: Sequence[Tensor], width: int) -> list[Float[Tensor, "B _ width"]]:
    """View (B, A * width, h, w) maps as one row an anchor, in the order of the anchors."""
    return [level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, width) for level in levels]
