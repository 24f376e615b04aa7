"""Faster R-CNN's head (Ren et al., arXiv:1506.01497): propose regions, then look at each.

The first stage, the region proposal network, finds a thousand boxes that may hold something; the
second cuts each of them out of the feature pyramid, says what it is and moves it into place.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.heads.roi_box import BoxHead
from ziggurat.heads.roi_samples import RegionSampler, RegionSamples
from ziggurat.heads.rpn import RPN, RPNOutput
from ziggurat.layers.adaptive_pooling import AdaptiveFeaturePooling
from ziggurat.layers.roi_pooling import RoIPooling
from ziggurat.ops.nms import HARD, BoxCandidates, Suppression
from ziggurat.types import Detections, ImageSize, check_same_length

Pooling = RoIPooling | AdaptiveFeaturePooling
"""What cuts regions out of the levels for a branch."""


class TwoStageOutput(NamedTuple):
    """Raw output: what both stages read.

    Attributes:
        levels: Levels of the neck, fine to coarse.
        rpn: What the first stage predicts; its proposals follow from the sizes of the images.
    """

    levels: list[Tensor]
    rpn: RPNOutput


class FasterRCNNHead(nn.Module):
    """Region proposals and the box branch.

    Args:
        rpn: The first stage.
        box_head: The second stage.
        pooling: Cuts out what the second stage reads.
        sampler: Which regions are trained on.
    """

    def __init__(
        self,
        rpn: RPN,
        box_head: BoxHead,
        pooling: Pooling,
        sampler: RegionSampler | None = None,
    ) -> None:
        super().__init__()
        self.rpn = rpn
        self.pooling = pooling
        self.box_head = box_head
        self.sampler = sampler or RegionSampler()

    def forward(self, levels: Sequence[Float[Tensor, "B C _ _"]]) -> TwoStageOutput:
        """Predict what the first stage predicts."""
        return TwoStageOutput(list(levels), self.rpn(levels))

    def loss(
        self,
        raw: TwoStageOutput,
        targets: Sequence[Detections],
        image_sizes: Sequence[ImageSize],
    ) -> dict[str, Tensor]:
        """Return the losses of both stages.

        Args:
            raw: What `forward` returned.
            targets: True objects of each image, in pixels of the padded image.
            image_sizes: Height and width of each image without its padding.
        """
        losses = self.rpn.loss(raw.rpn, targets, image_sizes)
        proposals = self.proposals(raw, image_sizes, is_training=True)
        return losses | self.region_losses(raw, proposals, targets)

    def proposals(
        self, raw: TwoStageOutput, image_sizes: Sequence[ImageSize], *, is_training: bool
    ) -> list[Float[Tensor, "_ 4"]]:
        """Return the regions that the first stage proposes in each image, in pixels.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding.
            is_training: Whether the limits of training hold.
        """
        found = self.rpn.propose(raw.rpn, image_sizes, is_training=is_training)
        return [boxes[:, :4] for boxes in found]

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
        return self.sample_losses(raw, self.draw_samples(proposals, targets))

    def draw_samples(
        self, proposals: Sequence[Float[Tensor, "_ 4"]], targets: Sequence[Detections]
    ) -> list[RegionSamples]:
        """Draw the regions to train on.

        Args:
            proposals: Regions of each image, in pixels.
            targets: True objects of each image.
        """
        return self.sampler.draw(proposals, targets, self.box_head.num_classes)

    def sample_losses(
        self, raw: TwoStageOutput, samples: Sequence[RegionSamples]
    ) -> dict[str, Tensor]:
        """Return the losses of the box branch.

        Args:
            raw: What `forward` returned.
            samples: Regions of each image, and what they are.
        """
        regions = self.pooling(raw.levels, [sample.boxes for sample in samples])
        classification, box = self.box_head.loss(self.box_head(regions), samples)
        return {"classification": classification, "box": box}

    def decode(
        self,
        raw: TwoStageOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
        suppression: Suppression = HARD,
    ) -> list[Detections]:
        """Return the detections of each image, best first.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing; where given, boxes are in pixels of the
                original images.
            suppression: What is done about duplicates.
        """
        found = self.candidates(raw, image_sizes, original_sizes)
        return [candidates.suppress(suppression) for candidates in found]

    def candidates(
        self,
        raw: TwoStageOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
    ) -> list[BoxCandidates]:
        """Return what may be a detection of each image, duplicates included.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing; where given, boxes are in pixels of the
                original images.
        """
        original_sizes = image_sizes if original_sizes is None else original_sizes
        check_same_length(
            "decode",
            image_sizes=image_sizes,
            original_sizes=original_sizes,
            images=raw.rpn.objectness[0],
        )
        proposals = self.proposals(raw, image_sizes, is_training=False)
        found = self.box_head(self.pooling(raw.levels, proposals))
        counts = [len(boxes) for boxes in proposals]
        return [
            self.box_head.candidates(boxes, type(found)(logits, deltas), size, original)
            for boxes, logits, deltas, size, original in zip(
                proposals,
                found.logits.split(counts),
                found.deltas.split(counts),
                image_sizes,
                original_sizes,
                strict=True,
            )
        ]
