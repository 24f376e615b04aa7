"""Mask R-CNN's head (He et al., arXiv:1703.06870): Faster R-CNN and a mask for every box.

In training the masks are learned on the regions that the box branch learns from; in prediction they
are drawn on its final boxes.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.heads.faster_rcnn import FasterRCNNHead, Pooling, TwoStageOutput
from ziggurat.heads.fused_mask import FusedMaskHead
from ziggurat.heads.roi_mask import MaskHead, mask_loss, mask_of_class
from ziggurat.ops.boxes import boxes_as_resized
from ziggurat.ops.nms import HARD, BoxCandidates, Suppression
from ziggurat.ops.region_masks import paste_masks
from ziggurat.types import Detections, ImageSize


class MaskRCNNHead(nn.Module):
    """Boxes, and a mask branch beside the box branch.

    Args:
        boxes: Both stages of Faster R-CNN.
        mask_head: The mask branch.
        pooling: Cuts out what the mask branch reads.
    """

    def __init__(
        self, boxes: FasterRCNNHead, mask_head: MaskHead | FusedMaskHead, pooling: Pooling
    ) -> None:
        super().__init__()
        self.boxes = boxes
        self.pooling = pooling
        self.mask_head = mask_head

    def forward(self, levels: Sequence[Float[Tensor, "B C _ _"]]) -> TwoStageOutput:
        """Predict what the first stage predicts."""
        raw: TwoStageOutput = self.boxes(levels)
        return raw

    def loss(
        self,
        raw: TwoStageOutput,
        targets: Sequence[Detections],
        image_sizes: Sequence[ImageSize],
    ) -> dict[str, Tensor]:
        """Return the losses of both stages and of the masks.

        Args:
            raw: What `forward` returned.
            targets: True objects of each image with their masks, in pixels of the padded image.
            image_sizes: Height and width of each image without its padding.
        """
        losses = self.boxes.rpn.loss(raw.rpn, targets, image_sizes)
        proposals = self.boxes.proposals(raw, image_sizes, is_training=True)
        return losses | self.region_losses(raw, proposals, targets)

    def region_losses(
        self,
        raw: TwoStageOutput,
        proposals: Sequence[Float[Tensor, "_ 4"]],
        targets: Sequence[Detections],
    ) -> dict[str, Tensor]:
        """Return the losses of the second stage on given proposals.

        Args:
            raw: What `forward` returned.
            proposals: Regions of each image, in pixels.
            targets: True objects of each image.
        """
        samples = self.boxes.draw_samples(proposals, targets)
        on_objects = [sample.boxes[: sample.num_foreground] for sample in samples]
        logits = self.mask_head(self.pooling(raw.levels, on_objects))
        losses = self.boxes.sample_losses(raw, samples)
        return losses | {"mask": mask_loss(logits, samples)}

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
        found = self.boxes.decode(raw, image_sizes, originals, suppression)
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
        return self.boxes.candidates(raw, image_sizes, original_sizes)

    def draw(
        self,
        raw: TwoStageOutput,
        found: Sequence[Detections],
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize],
    ) -> list[Float[Tensor, "_ 28 28"]]:
        """Return the probability of each pixel of each box to be of its object.

        Args:
            raw: What `forward` returned.
            found: Objects of each image in pixels of the original, whoever found them.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing.
        """
        regions = boxes_as_resized(found, image_sizes, original_sizes)
        logits = self.mask_head(self.pooling(raw.levels, regions))
        labels = torch.cat([objects.labels for objects in found])
        probabilities = mask_of_class(logits, labels).float().sigmoid()
        return list(probabilities.split([len(objects) for objects in found]))
