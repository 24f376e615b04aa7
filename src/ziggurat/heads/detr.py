"""DETR's head (Carion et al., arXiv:2005.12872): detection as the prediction of a set.

A transformer turns learned queries into objects while they look at the image and at each other.
Each true object is matched with exactly one query, so nothing has to be suppressed afterwards.

Shapes: B images, Q queries, K classes, L decoder layers, C channels, M = h * w cells.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss

from ziggurat.layers.query_attention import QueryAttention, QueryFeedForward
from ziggurat.layers.sine_position import sine_position
from ziggurat.ops.boxes import clip_boxes, scale_boxes
from ziggurat.ops.precision import at_least_float32
from ziggurat.ops.processes import mean_over_processes
from ziggurat.ops.set_matching import match_one_to_one
from ziggurat.types import Detections, ImageSize, check_same_length, scale_between

NUM_HEADS = 8
BACKGROUND_WEIGHT = 0.1
"""Weight of queries without an object in the cross entropy: they are many."""

BOX_WEIGHT, IOU_WEIGHT = 5.0, 2.0
"""Of L1 and of generalized IoU, in the matching and in the loss."""


class DETROutput(NamedTuple):
    """Raw output of every decoder layer, the last of which counts.

    Attributes:
        cls_logits: (L, B, Q, K + 1), background last.
        boxes_cxcywh: (L, B, Q, 4), as fractions of the image without its padding.
    """

    cls_logits: Tensor
    boxes_cxcywh: Tensor


class EncoderLayer(nn.Module):
    """Cells look at each other; positions are added where they are compared, not to the content.

    Args:
        dim: Number of channels C.
        dropout: Share dropped in training.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.attention = QueryAttention(dim, NUM_HEADS, dropout)
        self.feed_forward = QueryFeedForward(dim, 8 * dim, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B M C"],
        position: Float[Tensor, "B M C"],
        valid: Bool[Tensor, "B M"] | None,
    ) -> Float[Tensor, "B M C"]:
        """Mix the cells of each image."""
        placed = x + position
        x = self.norms[0](x + self.dropout(self.attention(placed, placed, x, valid)))
        y: Tensor = self.norms[1](x + self.feed_forward(x))
        return y


class DecoderLayer(nn.Module):
    """Queries look at each other and then at the image.

    Args:
        dim: Number of channels C.
        dropout: Share dropped in training.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = QueryAttention(dim, NUM_HEADS, dropout)
        self.cross_attention = QueryAttention(dim, NUM_HEADS, dropout)
        self.feed_forward = QueryFeedForward(dim, 8 * dim, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B Q C"],
        queries: Float[Tensor, "B Q C"],
        memory: Float[Tensor, "B M C"],
        placed_memory: Float[Tensor, "B M C"],
        valid: Bool[Tensor, "B M"] | None,
    ) -> Float[Tensor, "B Q C"]:
        """Move what the queries know about the image one step on."""
        placed = x + queries
        x = self.norms[0](x + self.dropout(self.self_attention(placed, placed, x)))
        seen = self.cross_attention(x + queries, placed_memory, memory, valid)
        x = self.norms[1](x + self.dropout(seen))
        y: Tensor = self.norms[2](x + self.feed_forward(x))
        return y


class DETRHead(nn.Module):
    """Encoder, decoder, and a class and a box of every query.

    Args:
        in_channels: Channels of the backbone's last map.
        stride: Its stride.
        num_classes: Number of foreground classes K.
        channels: Width C of the transformer, a multiple of 8.
        num_queries: Number of queries Q, the most objects that can be found.
        num_layers: Layers of the encoder and of the decoder.
        dropout: Share dropped in training.
    """

    def __init__(
        self,
        in_channels: int,
        stride: int,
        num_classes: int,
        *,
        channels: int = 256,
        num_queries: int = 100,
        num_layers: int = 6,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.num_classes = num_classes
        self.channels = channels
        self.input_proj = nn.Conv2d(in_channels, channels, 1)
        self.encoder = nn.ModuleList(EncoderLayer(channels, dropout) for _ in range(num_layers))
        self.decoder = nn.ModuleList(DecoderLayer(channels, dropout) for _ in range(num_layers))
        for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.norm = nn.LayerNorm(channels)
        self.queries = nn.Embedding(num_queries, channels)
        self.cls_logits = nn.Linear(channels, num_classes + 1)
        self.box_linears = nn.ModuleList(nn.Linear(channels, channels) for _ in range(2))
        self.boxes = nn.Linear(channels, 4)

    def forward(
        self, features: Sequence[Float[Tensor, "B _ h w"]], image_sizes: Sequence[ImageSize]
    ) -> DETROutput:
        """Predict a class and a box for every query after every decoder layer.

        Args:
            features: The backbone's last map, alone.
            image_sizes: Height and width of each image without its padding, which is not seen.
        """
        (level,) = features
        valid = self._valid(level, image_sizes)
        position = sine_position(valid, self.channels).to(level.dtype).flatten(2).mT
        padded = any(
            -(-s // self.stride) < n
            for size in image_sizes
            for s, n in zip(size, level.shape[2:], strict=True)
        )
        keys = valid.flatten(1) if padded else None
        memory = self.input_proj(level).flatten(2).mT
        for layer in self.encoder:
            memory = layer(memory, position, keys)
        placed = memory + position
        queries = self.queries.weight.expand(len(level), -1, -1).to(memory.dtype)
        x = torch.zeros_like(queries)
        states = []
        for layer in self.decoder:
            x = layer(x, queries, memory, placed, keys)
            states.append(self.norm(x))
        found = torch.stack(states)
        y = found
        for linear in self.box_linears:
            y = linear(y).relu()
        return DETROutput(self.cls_logits(found), at_least_float32(self.boxes(y)).sigmoid())

    def _valid(
        self, level: Float[Tensor, "B _ h w"], image_sizes: Sequence[ImageSize]
    ) -> Bool[Tensor, "B h w"]:
        """Tell the cells whose first pixel lies in the image, which is the nearest resizing."""
        sizes = torch.tensor(list(image_sizes), device=level.device)
        rows = torch.arange(level.shape[2], device=level.device) * self.stride
        columns = torch.arange(level.shape[3], device=level.device) * self.stride
        return (rows < sizes[:, :1])[:, :, None] & (columns < sizes[:, 1:])[:, None]

    def loss(
        self, raw: DETROutput, targets: Sequence[Detections], image_sizes: Sequence[ImageSize]
    ) -> dict[str, Tensor]:
        """Return cross entropy, L1 and generalized IoU of every decoder layer.

        Args:
            raw: What `forward` returned.
            targets: True objects of each image, in pixels of the padded image.
            image_sizes: Height and width of each image without its padding.
        """
        check_same_length(
            "loss", targets=targets, image_sizes=image_sizes, images=raw.cls_logits[0]
        )
        logits, boxes = raw.cls_logits.float(), raw.boxes_cxcywh.float()
        labels = torch.full(logits.shape[:3], self.num_classes, device=logits.device)
        zero = boxes.flatten(1).sum(dim=1) * 0  # keeps the branch in a graph without objects
        l1, iou = zero, zero
        for i, (target, size) in enumerate(zip(targets, image_sizes, strict=True)):
            true = box_convert(
                scale_boxes(target.boxes, scale_between(size, (1, 1))), "xyxy", "cxcywh"
            )
            with torch.no_grad():
                cost = _cost(logits[:, i], boxes[:, i], true, target.labels)
            queries, objects = match_one_to_one(cost)
            layers = torch.arange(len(logits), device=logits.device)[:, None]
            labels[layers, i, queries] = target.labels[objects]
            own, goal = boxes[layers, i, queries], true[objects]
            l1 = l1 + (own - goal).abs().sum(dim=(1, 2))
            iou = iou + generalized_box_iou_loss(_corners(own), _corners(goal)).sum(dim=1)
        foreground = (labels[0] < self.num_classes).sum()
        background = labels[0].numel() - foreground
        weights = logits.new_ones(self.num_classes + 1)
        weights[-1] = BACKGROUND_WEIGHT
        entropy = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), weights, reduction="none")
        counted = (foreground + BACKGROUND_WEIGHT * background).clamp(min=1)
        classification = entropy.view(len(logits), -1).sum(dim=1) / counted
        objects_seen = mean_over_processes(foreground.float()).clamp(min=1)
        terms = {
            "classification": classification,
            "box": BOX_WEIGHT * l1 / objects_seen,
            "iou": IOU_WEIGHT * iou / objects_seen,
        }
        return {
            name if layer == len(logits) - 1 else f"layer{layer}_{name}": values[layer]
            for layer in range(len(logits))
            for name, values in terms.items()
        }

    def decode(
        self,
        raw: DETROutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
    ) -> list[Detections]:
        """Return one detection of every query, best first.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding; boxes are cut there.
            original_sizes: Sizes before resizing; where given, boxes are in their pixels.
        """
        original_sizes = image_sizes if original_sizes is None else original_sizes
        check_same_length(
            "decode",
            image_sizes=image_sizes,
            original_sizes=original_sizes,
            images=raw.cls_logits[0],
        )
        scores, labels = raw.cls_logits[-1].float().softmax(-1)[..., :-1].max(dim=-1)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        results = []
        for i, (size, original) in enumerate(zip(image_sizes, original_sizes, strict=True)):
            corners = _corners(raw.boxes_cxcywh[-1, i, order[i]].float())
            boxes = clip_boxes(corners * corners.new_tensor([*size[::-1], *size[::-1]]), size)
            boxes = scale_boxes(boxes, scale_between(size, original))
            results.append(Detections(boxes, scores[i], labels[i, order[i]]))
        return results


def _corners(boxes_cxcywh: Float[Tensor, "... 4"]) -> Float[Tensor, "... 4"]:
    return box_convert(boxes_cxcywh, "cxcywh", "xyxy")


def _cost(
    logits: Float[Tensor, "L Q _"],
    boxes: Float[Tensor, "L Q 4"],
    true: Float[Tensor, "G 4"],
    labels: Tensor,
) -> Float[Tensor, "L Q G"]:
    """Return what each pair costs: probability, L1 of (cx, cy, w, h), generalized IoU."""
    iou = generalized_box_iou(_corners(boxes).flatten(0, 1), _corners(true))
    distance = torch.cdist(boxes, true.expand(len(boxes), -1, -1), p=1)
    probability = logits.softmax(-1)[..., labels]
    return BOX_WEIGHT * distance - probability - IOU_WEIGHT * iou.view_as(distance)
