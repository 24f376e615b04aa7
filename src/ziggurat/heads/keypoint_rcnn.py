"""Keypoint R-CNN's head (He et al., arXiv:1703.06870, section 5): Faster R-CNN and points.

In training the points are learned on the regions that the box branch learns from; in prediction
they are looked for in its final boxes.
"""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.heads.faster_rcnn import FasterRCNNHead, Pooling, TwoStageOutput
from ziggurat.heads.roi_keypoint import KeypointHead, regions_with_points
from ziggurat.keypoints import Keypoints, plain_skeleton
from ziggurat.ops.boxes import boxes_as_resized
from ziggurat.ops.keypoint_maps import maps_to_points
from ziggurat.ops.nms import HARD, BoxCandidates, Suppression
from ziggurat.types import Detections, ImageSize, scale_between


class KeypointRCNNHead(nn.Module):
    """Boxes, and a keypoint branch beside the box branch.

    Args:
        boxes: Both stages of Faster R-CNN.
        keypoint_head: The keypoint branch.
        pooling: Cuts out what the keypoint branch reads.

    Attributes:
        skeleton: What the points are; whoever trains or loads the head says it.
    """

    def __init__(
        self, boxes: FasterRCNNHead, keypoint_head: KeypointHead, pooling: Pooling
    ) -> None:
        super().__init__()
        self.boxes = boxes
        self.pooling = pooling
        self.keypoint_head = keypoint_head
        self.skeleton = plain_skeleton(keypoint_head.num_keypoints)

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
        """Return the losses of both stages and of the points.

        Args:
            raw: What `forward` returned.
            targets: True objects of each image with their keypoints, in pixels of the padded
                image.
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
        shown = [
            sample.boxes[: sample.num_foreground][regions_with_points(sample)] for sample in samples
        ]
        logits = self.keypoint_head(self.pooling(raw.levels, shown))
        losses = self.boxes.sample_losses(raw, samples)
        return losses | {"keypoint": self.keypoint_head.loss(logits, samples)}

    def decode(
        self,
        raw: TwoStageOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
        suppression: Suppression = HARD,
    ) -> list[Detections]:
        """Return the detections of each image with their keypoints, best first.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing; where given, boxes and keypoints are in pixels
                of the original images.
            suppression: What is done about duplicates.
        """
        originals = image_sizes if original_sizes is None else original_sizes
        found = self.boxes.decode(raw, image_sizes, originals, suppression)
        points = self.find(raw, found, image_sizes, originals)
        return [
            replace(objects, keypoints=part) for objects, part in zip(found, points, strict=True)
        ]

    def candidates(
        self,
        raw: TwoStageOutput,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
    ) -> list[BoxCandidates]:
        """Return what may be a detection of each image, duplicates included and without keypoints.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing; where given, boxes are in pixels of the
                original images.
        """
        return self.boxes.candidates(raw, image_sizes, original_sizes)

    def find(
        self,
        raw: TwoStageOutput,
        found: Sequence[Detections],
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize],
    ) -> list[Keypoints]:
        """Return the keypoints in given boxes.

        Args:
            raw: What `forward` returned.
            found: Objects of each image in pixels of the original, whoever found them.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing.
        """
        regions = boxes_as_resized(found, image_sizes, original_sizes)
        logits = self.keypoint_head(self.pooling(raw.levels, regions))
        parts = logits.float().split([len(objects) for objects in found])
        return [
            Keypoints(maps_to_points(part, boxes), self.skeleton).scale(
                scale_between(original, size)
            )
            for part, boxes, size, original in zip(
                parts, regions, image_sizes, original_sizes, strict=True
            )
        ]
