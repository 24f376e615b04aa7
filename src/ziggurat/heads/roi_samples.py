"""Which proposals the second stage is trained on (Girshick, Fast R-CNN, arXiv:1504.08083, 2.3).

True boxes stand among the proposals, so that there is something to learn from when the first stage
still finds nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ziggurat.ops.matching import match_by_iou
from ziggurat.ops.sampling import draw_balanced
from ziggurat.types import Detections

SAMPLES = 512
"""Proposals of an image that are trained on."""
FOREGROUND_SHARE = 0.25


@dataclass(frozen=True)
class RegionSamples:
    """Regions of one image to train on: P of them on objects, in front, the others background.

    Attributes:
        boxes: x1, y1, x2, y2 in pixels.
        objects: Number of the true object of each of the P.
        labels: Class of each region; the number of classes for background.
        is_true_box: Whether the region is itself a true box.
        target: True objects of the image.
    """

    boxes: Float[Tensor, "M 4"]
    objects: Int[Tensor, " P"]
    labels: Int[Tensor, " M"]
    is_true_box: Tensor
    target: Detections

    @property
    def num_foreground(self) -> int:
        """P, the number of regions on objects."""
        return len(self.objects)


@dataclass(frozen=True)
class RegionSampler:
    """Draws regions to train on.

    Attributes:
        iou: Least IoU of a region on an object; below it is background.
        is_forced: Whether the best regions of an object are its own if they only reach `iou`
            together with another object that fits better.
        num_samples: Regions of an image.
    """

    iou: float = 0.5
    is_forced: bool = True
    num_samples: int = SAMPLES

    def draw(
        self,
        proposals: Sequence[Float[Tensor, "_ 4"]],
        targets: Sequence[Detections],
        num_classes: int,
    ) -> list[RegionSamples]:
        """Draw from the proposals of each image and its true boxes.

        Args:
            proposals: x1, y1, x2, y2 of each image, in pixels.
            targets: True objects of each image.
            num_classes: Number of foreground classes, the label of background.
        """
        return [
            self._draw(boxes, target, num_classes)
            for boxes, target in zip(proposals, targets, strict=True)
        ]

    def _draw(
        self, proposals: Float[Tensor, "P 4"], target: Detections, num_classes: int
    ) -> RegionSamples:
        matches = match_by_iou(
            proposals,
            target.boxes,
            foreground_iou=self.iou,
            background_iou=self.iou,
            least_forced_iou=self.iou if self.is_forced else None,
        )
        own = torch.arange(len(target), device=matches.device)
        boxes, matches = torch.cat([target.boxes, proposals]), torch.cat([own, matches])
        foreground, background = draw_balanced(matches, self.num_samples, FOREGROUND_SHARE)
        chosen = torch.cat([foreground, background])
        objects = matches[foreground]
        labels = torch.full((len(chosen),), num_classes, device=matches.device)
        labels[: len(foreground)] = target.labels[objects]
        return RegionSamples(boxes[chosen], objects, labels, chosen < len(target), target)
