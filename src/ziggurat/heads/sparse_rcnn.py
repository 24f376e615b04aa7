"""Sparse R-CNN's head (Sun et al., arXiv:2011.12450): a fixed, learned set of proposals.

Every proposal is a box and a vector. Six stages cut the box out of the image, let the vector make
the filters that look at it, and move the box; no anchors, no suppression.

Shapes: B images, N proposals, K classes, S stages, C channels, s x s a region.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss

from ziggurat.layers.query_attention import QueryAttention, QueryFeedForward
from ziggurat.layers.roi_pooling import RoIPooling
from ziggurat.losses.focal import sigmoid_focal_loss
from ziggurat.ops.boxes import Stds, decode_deltas, scale_boxes
from ziggurat.ops.processes import mean_over_processes
from ziggurat.ops.set_matching import match_one_to_one
from ziggurat.types import Detections, ImageSize, check_same_length, scale_between

NUM_HEADS = 8
REGION_SIZE = 7
STDS: Stds = (0.5, 0.5, 1.0, 1.0)
CLASS_WEIGHT, BOX_WEIGHT, IOU_WEIGHT = 2.0, 5.0, 2.0
"""Of focal loss, of L1 and of generalized IoU, in the matching and in the loss."""

ALPHA, GAMMA = 0.25, 2.0
PRIOR_LOGIT = -4.595
"""At first every class has a probability of 0.01."""


class SparseRCNNOutput(NamedTuple):
    """Raw output of every stage, the last of which counts.

    Attributes:
        cls_logits: (S, B, N, K).
        boxes: (S, B, N, 4), in pixels, not cut at the border.
    """

    cls_logits: Tensor
    boxes: Tensor


class DynamicConv(nn.Module):
    """Two 1x1 convolutions whose filters the proposal makes for its own region (section 3.2).

    Args:
        dim: Number of channels C.
        hidden: Channels between the convolutions.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.dim, self.hidden = dim, hidden
        self.filters = nn.Linear(dim, 2 * dim * hidden)
        self.norm_in = nn.LayerNorm(hidden)
        self.norm_out = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim * REGION_SIZE**2, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, proposals: Float[Tensor, "R C"], regions: Float[Tensor, "R C s s"]
    ) -> Float[Tensor, "R C"]:
        """Return what each proposal sees in its region."""
        first, second = self.filters(proposals).chunk(2, dim=1)
        x = regions.flatten(2).mT
        x = self.norm_in(x @ first.view(-1, self.dim, self.hidden)).relu()
        x = self.norm_out(x @ second.view(-1, self.hidden, self.dim)).relu()
        y: Tensor = self.norm(self.proj(x.flatten(1))).relu()
        return y


class Stage(nn.Module):
    """Proposals look at each other, each looks at its region, and says class and box.

    Args:
        dim: Number of channels C.
        num_classes: Number of foreground classes K.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.attention = QueryAttention(dim, NUM_HEADS)
        self.attention_norm = nn.LayerNorm(dim)
        self.dynamic_conv = DynamicConv(dim, dim // 4)
        self.dynamic_norm = nn.LayerNorm(dim)
        self.feed_forward = QueryFeedForward(dim, 8 * dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.cls_tower = _tower(dim, 1)
        self.reg_tower = _tower(dim, 3)
        self.cls_logits = nn.Linear(dim, num_classes)
        self.box_deltas = nn.Linear(dim, 4)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.constant_(self.cls_logits.bias, PRIOR_LOGIT)

    def forward(
        self, proposals: Float[Tensor, "B N C"], regions: Float[Tensor, "R C s s"]
    ) -> tuple[Float[Tensor, "B N K"], Float[Tensor, "B N 4"], Float[Tensor, "B N C"]]:
        """Return logits, deltas of the boxes, and the vectors of the next stage."""
        x = self.attention_norm(proposals + self.attention(proposals, proposals, proposals))
        seen = self.dynamic_conv(x.flatten(0, 1), regions).view_as(x)
        x = self.dynamic_norm(x + seen)
        x = self.feed_forward_norm(x + self.feed_forward(x))
        return self.cls_logits(self.cls_tower(x)), self.box_deltas(self.reg_tower(x)), x


class SparseRCNNHead(nn.Module):
    """Learned proposals and the stages that improve them.

    Args:
        channels: Channels C of every level, a multiple of 8.
        strides: Strides of the levels.
        num_classes: Number of foreground classes K.
        num_proposals: Number of proposals N.
        num_stages: Number of stages S.
    """

    def __init__(
        self,
        channels: int,
        strides: Sequence[int],
        num_classes: int,
        *,
        num_proposals: int = 300,
        num_stages: int = 6,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.proposal_boxes = nn.Embedding(num_proposals, 4)
        self.proposal_features = nn.Embedding(num_proposals, channels)
        nn.init.constant_(self.proposal_boxes.weight[:, :2], 0.5)  # the whole image
        nn.init.constant_(self.proposal_boxes.weight[:, 2:], 1.0)
        self.pooling = RoIPooling(tuple(strides), REGION_SIZE, sampling_ratio=2)
        self.stages = nn.ModuleList(Stage(channels, num_classes) for _ in range(num_stages))

    def forward(
        self, features: Sequence[Float[Tensor, "B C _ _"]], image_sizes: Sequence[ImageSize]
    ) -> SparseRCNNOutput:
        """Predict classes and boxes of all proposals in every stage.

        Args:
            features: Levels of the pyramid.
            image_sizes: Height and width of each image without its padding; proposals are
                fractions of it.
        """
        count, number = len(features[0]), self.proposal_boxes.num_embeddings
        sides = self._sides(image_sizes, features[0])
        boxes = box_convert(self.proposal_boxes.weight.float(), "cxcywh", "xyxy") * sides
        proposals = self.proposal_features.weight.expand(count, -1, -1)
        all_logits, all_boxes = [], []
        for stage in self.stages:
            regions = self.pooling(features, list(boxes.detach()))
            logits, deltas, proposals = stage(proposals, regions)
            moved = decode_deltas(boxes.flatten(0, 1), deltas.flatten(0, 1).float(), None, STDS)
            all_logits.append(logits)
            all_boxes.append(moved.view(count, number, 4))
            boxes = all_boxes[-1].detach()  # each stage learns from its own step only
        return SparseRCNNOutput(torch.stack(all_logits), torch.stack(all_boxes))

    @staticmethod
    def _sides(image_sizes: Sequence[ImageSize], like: Tensor) -> Float[Tensor, "B 1 4"]:
        rows = [[width, height, width, height] for height, width in image_sizes]
        return torch.tensor(rows, dtype=torch.float32, device=like.device)[:, None]

    def loss(
        self,
        raw: SparseRCNNOutput,
        targets: Sequence[Detections],
        image_sizes: Sequence[ImageSize],
    ) -> dict[str, Tensor]:
        """Return focal loss, L1 and generalized IoU of every stage, divided by the objects.

        Args:
            raw: What `forward` returned.
            targets: True objects of each image, in pixels of the padded image.
            image_sizes: Height and width of each image without its padding.
        """
        check_same_length(
            "loss", targets=targets, image_sizes=image_sizes, images=raw.cls_logits[0]
        )
        logits = raw.cls_logits.float()
        boxes = raw.boxes.float() / self._sides(image_sizes, logits)
        goals = torch.zeros_like(logits)
        zero = boxes.flatten(1).sum(dim=1) * 0  # keeps the branch in a graph without objects
        l1, iou = zero, zero
        for i, (target, size) in enumerate(zip(targets, image_sizes, strict=True)):
            true = scale_boxes(target.boxes, scale_between(size, (1, 1)))
            with torch.no_grad():
                cost = _cost(logits[:, i], boxes[:, i], true, target.labels)
            chosen, objects = match_one_to_one(cost)
            stages = torch.arange(len(logits), device=logits.device)[:, None]
            goals[stages, i, chosen, target.labels[objects]] = 1
            own, goal = boxes[stages, i, chosen], true[objects]
            l1 = l1 + (own - goal).abs().sum(dim=(1, 2))
            iou = iou + generalized_box_iou_loss(own, goal).sum(dim=1)
        normalizer = mean_over_processes(goals[0].sum()).clamp(min=1)
        losses: dict[str, Tensor] = {}
        for stage in range(len(logits)):
            focal = sigmoid_focal_loss(
                logits[stage].flatten(0, 1), goals[stage].flatten(0, 1), alpha=ALPHA, gamma=GAMMA
            )
            losses[f"stage{stage}_classification"] = CLASS_WEIGHT * focal / normalizer
            losses[f"stage{stage}_box"] = BOX_WEIGHT * l1[stage] / normalizer
            losses[f"stage{stage}_iou"] = IOU_WEIGHT * iou[stage] / normalizer
        return losses

    def decode(
        self,
        raw: SparseRCNNOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
    ) -> list[Detections]:
        """Return as many detections as there are proposals, best first.

        A proposal may be several of them, with different classes.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing; where given, boxes are in their pixels.
        """
        original_sizes = image_sizes if original_sizes is None else original_sizes
        check_same_length(
            "decode",
            image_sizes=image_sizes,
            original_sizes=original_sizes,
            images=raw.cls_logits[0],
        )
        results = []
        for i, (size, original) in enumerate(zip(image_sizes, original_sizes, strict=True)):
            logits = raw.cls_logits[-1, i].float()
            best, pairs = logits.flatten().topk(len(logits))
            boxes = raw.boxes[-1, i, pairs // self.num_classes].float()
            boxes = scale_boxes(boxes, scale_between(size, original))
            results.append(Detections(boxes, best.sigmoid(), pairs % self.num_classes))
        return results


def _tower(dim: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(dim, dim, bias=False), nn.LayerNorm(dim), nn.ReLU()]
    return nn.Sequential(*layers)


def _cost(
    logits: Float[Tensor, "S N _"],
    boxes: Float[Tensor, "S N 4"],
    true: Float[Tensor, "G 4"],
    labels: Tensor,
) -> Float[Tensor, "S N G"]:
    """Return what each pair costs: focal loss, L1 of normalised corners, generalized IoU."""
    p = logits.sigmoid()[..., labels]
    positive = -ALPHA * (1 - p) ** GAMMA * (p + 1e-12).log()
    negative = -(1 - ALPHA) * p**GAMMA * (1 - p + 1e-12).log()
    distance = torch.cdist(boxes, true.expand(len(boxes), -1, -1), p=1)
    iou = generalized_box_iou(boxes.flatten(0, 1), true).view_as(distance)
    return CLASS_WEIGHT * (positive - negative) + BOX_WEIGHT * distance - IOU_WEIGHT * iou
