"""Cascade Mask R-CNN's head (Cai and Vasconcelos, arXiv:1712.00726, arXiv:1906.09756).

A region that fits its object well can be judged more strictly, and moved better. So the second
stage runs three times, each on the boxes of the one before and trained for a higher overlap: 0.5,
0.6, 0.7. In prediction all three classify the last boxes together, and draw their masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.heads.faster_rcnn import TwoStageOutput
from ziggurat.heads.roi_box import POOLED_SIDE as BOX_SIDE
from ziggurat.heads.roi_box import BoxHead, BoxOutput
from ziggurat.heads.roi_mask import POOLED_SIDE as MASK_SIDE
from ziggurat.heads.roi_mask import MaskHead, mask_loss, mask_of_class
from ziggurat.heads.roi_samples import RegionSampler, RegionSamples
from ziggurat.heads.rpn import RPN
from ziggurat.layers.roi_pooling import RoIPooling
from ziggurat.ops.boxes import Stds, boxes_as_resized
from ziggurat.ops.nms import HARD, BoxCandidates, Suppression
from ziggurat.ops.region_masks import paste_masks
from ziggurat.types import Detections, ImageSize, check_same_length

GIOU_WEIGHT = 10.0


@dataclass(frozen=True)
class Stage:
    """What is different from stage to stage.

    Attributes:
        iou: Least overlap of a region on an object in training.
        stds: What the deltas are divided by; they shrink as the boxes get better.
        weight: Weight of the losses.
    """

    iou: float
    stds: Stds
    weight: float


STAGES = (
    Stage(0.5, (0.1, 0.1, 0.2, 0.2), 1.0),
    Stage(0.6, (0.05, 0.05, 0.1, 0.1), 0.5),
    Stage(0.7, (0.033, 0.033, 0.067, 0.067), 0.25),
)


class CascadeMaskRCNNHead(nn.Module):
    """Region proposals and three rounds of boxes and masks.

    Args:
        rpn: The first stage.
        box_heads: The box branch of each round.
        mask_heads: The mask branch of each round.
        strides: Strides of the levels that regions are cut from.
    """

    def __init__(
        self,
        rpn: RPN,
        box_heads: Sequence[BoxHead],
        mask_heads: Sequence[MaskHead],
        strides: Sequence[int],
    ) -> None:
        super().__init__()
        self.rpn = rpn
        self.box_heads = nn.ModuleList(box_heads)
        self.mask_heads = nn.ModuleList(mask_heads)
        self.box_pooling = RoIPooling(strides, BOX_SIDE)
        self.mask_pooling = RoIPooling(strides, MASK_SIDE)
        self.samplers = [RegionSampler(stage.iou, is_forced=False) for stage in STAGES]

    def forward(self, levels: Sequence[Float[Tensor, "B C _ _"]]) -> TwoStageOutput:
        """Predict what the first stage predicts."""
        return TwoStageOutput(list(levels), self.rpn(levels))

    def loss(
        self,
        raw: TwoStageOutput,
        targets: Sequence[Detections],
        image_sizes: Sequence[ImageSize],
    ) -> dict[str, Tensor]:
        """Return the losses of the proposals and of each round.

        Args:
            raw: What `forward` returned.
            targets: True objects of each image with their masks, in pixels of the padded image.
            image_sizes: Height and width of each image without its padding.
        """
        losses = self.rpn.loss(raw.rpn, targets, image_sizes)
        found = self.rpn.propose(raw.rpn, image_sizes, is_training=True)
        proposals = [boxes[:, :4] for boxes in found]
        return losses | self.region_losses(raw, proposals, targets, image_sizes)

    def region_losses(
        self,
        raw: TwoStageOutput,
        proposals: Sequence[Float[Tensor, "_ 4"]],
        targets: Sequence[Detections],
        image_sizes: Sequence[ImageSize],
    ) -> dict[str, Tensor]:
        """Return the losses of the three rounds, the first on given proposals.

        Args:
            raw: What `forward` returned.
            proposals: Regions of each image, in pixels.
            targets: True objects of each image.
            image_sizes: Height and width of each image without its padding.
        """
        losses: dict[str, Tensor] = {}
        for i, stage in enumerate(STAGES):
            box_head, mask_head = self._heads(i)
            samples = self.samplers[i].draw(proposals, targets, box_head.num_classes)
            found = box_head(self.box_pooling(raw.levels, [s.boxes for s in samples]))
            classification, box = box_head.loss(found, samples, giou_weight=GIOU_WEIGHT)
            on_objects = [s.boxes[: s.num_foreground] for s in samples]
            masks = mask_head(self.mask_pooling(raw.levels, on_objects))
            losses |= {
                f"classification_{i}": stage.weight * classification,
                f"box_{i}": stage.weight * box,
                f"mask_{i}": stage.weight * mask_loss(masks, samples),
            }
            if i + 1 < len(STAGES):
                proposals = self._refined(box_head, samples, found, image_sizes)
        return losses

    @torch.no_grad()
    def _refined(
        self,
        box_head: BoxHead,
        samples: Sequence[RegionSamples],
        found: BoxOutput,
        image_sizes: Sequence[ImageSize],
    ) -> list[Float[Tensor, "_ 4"]]:
        """Move the regions of a round by the deltas of their true class, or of the likeliest."""
        counts = [len(sample.boxes) for sample in samples]
        refined = []
        for sample, logits, deltas, size in zip(
            samples,
            found.logits.split(counts),
            found.deltas.split(counts),
            image_sizes,
            strict=True,
        ):
            labels = torch.where(
                sample.labels == box_head.num_classes, logits[:, :-1].argmax(dim=1), sample.labels
            )
            moved = box_head.refine(sample.boxes, deltas.float(), labels, size)
            # A true box is put in again by the next round; moved, it would be there twice.
            refined.append(moved[~sample.is_true_box])
        return refined

    def decode(
        self,
        raw: TwoStageOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
        suppression: Suppression = HARD,
    ) -> list[Detections]:
        """Return the detections of each image with their masks, best first.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing; where given, boxes and masks are in pixels of
                the original images.
            suppression: What is done about duplicates.
        """
        originals = image_sizes if original_sizes is None else original_sizes
        candidates = self.candidates(raw, image_sizes, originals)
        found = [boxes.suppress(suppression) for boxes in candidates]
        masks = self.draw(raw, found, image_sizes, originals)
        return [
            replace(objects, masks=paste_masks(mask, objects.boxes, original))
            for objects, mask, original in zip(found, masks, originals, strict=True)
        ]

    def candidates(
        self,
        raw: TwoStageOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
    ) -> list[BoxCandidates]:
        """Return what may be a detection of each image, duplicates included and without masks.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing; where given, boxes are in pixels of the
                original images.
        """
        originals = image_sizes if original_sizes is None else original_sizes
        check_same_length(
            "decode",
            image_sizes=image_sizes,
            original_sizes=originals,
            images=raw.rpn.objectness[0],
        )
        proposals = self.rpn.propose(raw.rpn, image_sizes, is_training=False)
        regions, found = self.cascade(raw, [boxes[:, :4] for boxes in proposals], image_sizes)
        counts = [len(boxes) for boxes in regions]
        last, _ = self._heads(len(STAGES) - 1)
        return [
            last.candidates(boxes, BoxOutput(logits, deltas), size, original)
            for boxes, logits, deltas, size, original in zip(
                regions,
                found.logits.split(counts),
                found.deltas.split(counts),
                image_sizes,
                originals,
                strict=True,
            )
        ]

    def cascade(
        self,
        raw: TwoStageOutput,
        regions: list[Float[Tensor, "_ 4"]],
        image_sizes: Sequence[ImageSize],
    ) -> tuple[list[Float[Tensor, "_ 4"]], BoxOutput]:
        """Return the regions of the last round, the mean logits of all, and the last deltas.

        Args:
            raw: What `forward` returned.
            regions: Proposals of each image, in pixels.
            image_sizes: Height and width of each image without its padding.
        """
        counts = [len(boxes) for boxes in regions]
        all_logits: list[Tensor] = []
        for i in range(len(STAGES)):
            box_head, _ = self._heads(i)
            found: BoxOutput = box_head(self.box_pooling(raw.levels, regions))
            all_logits.append(found.logits)
            if i + 1 < len(STAGES):
                regions = [
                    box_head.refine(boxes, deltas.float(), logits[:, :-1].argmax(dim=1), size)
                    for boxes, logits, deltas, size in zip(
                        regions,
                        found.logits.split(counts),
                        found.deltas.split(counts),
                        image_sizes,
                        strict=True,
                    )
                ]
        return regions, BoxOutput(torch.stack(all_logits).mean(dim=0), found.deltas)

    def draw(
        self,
        raw: TwoStageOutput,
        found: Sequence[Detections],
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize],
    ) -> list[Float[Tensor, "_ 28 28"]]:
        """Return the probability of each pixel of each box to be of its object: the rounds' mean.

        Args:
            raw: What `forward` returned.
            found: Objects of each image in pixels of the original, whoever found them.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing.
        """
        regions = boxes_as_resized(found, image_sizes, original_sizes)
        pooled = self.mask_pooling(raw.levels, regions)
        labels = torch.cat([objects.labels for objects in found])
        drawn = [
            mask_of_class(self._heads(i)[1](pooled), labels).float().sigmoid()
            for i in range(len(STAGES))
        ]
        parts = torch.stack(drawn).mean(dim=0).split([len(objects) for objects in found])
        return list(parts)

    def _heads(self, stage: int) -> tuple[BoxHead, MaskHead]:
        box_head, mask_head = self.box_heads[stage], self.mask_heads[stage]
        assert isinstance(box_head, BoxHead)
        assert isinstance(mask_head, MaskHead)
        return box_head, mask_head
