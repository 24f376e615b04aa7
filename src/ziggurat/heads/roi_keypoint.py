"""The keypoint branch of Mask R-CNN (He et al., arXiv:1703.06870, section 5).

A point of an object is a mask of which a single cell is set: the branch says, for each of P points
of a region, in which of 56 x 56 cells it lies, and learns that as one choice out of 3136.

Shapes: M regions of a batch, P points of each, C channels of the levels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ziggurat.heads.roi_samples import RegionSamples
from ziggurat.ops.keypoint_maps import points_to_cells

POOLED_SIDE = 14
"""Side of a region on a level after RoIAlign, in cells."""
MAP_SIDE = 56
"""Twice doubled: by a transposed convolution, then by interpolation."""
DEPTH = 8
WIDENING = 2
"""The branch is wider than the levels: as published 512 channels on levels of 256."""


class KeypointHead(nn.Module):
    """Eight convolutions and a map for each point, twice doubled.

    Args:
        in_channels: Channels C of the levels.
        num_keypoints: Number of points P.
    """

    def __init__(self, in_channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.num_keypoints = num_keypoints
        width = WIDENING * in_channels
        self.convs = nn.ModuleList(
            nn.Conv2d(in_channels if number == 0 else width, width, 3, padding=1)
            for number in range(DEPTH)
        )
        self.logits = nn.ConvTranspose2d(width, num_keypoints, 4, stride=2, padding=1)
        for module in (*self.convs, self.logits):
            assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def forward(self, regions: Float[Tensor, "M C 14 14"]) -> Float[Tensor, "M P 56 56"]:
        """Return the logit of every cell for every point."""
        x = regions
        for conv in self.convs:
            x = conv(x).relu_()
        logits: Tensor = self.logits(x)
        if not len(logits):  # interpolation refuses an empty batch
            return logits.repeat(1, 1, 2, 2)
        return F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)

    def loss(
        self, logits: Float[Tensor, "M P 56 56"], samples: Sequence[RegionSamples]
    ) -> Float[Tensor, ""]:
        """Return the mean cross entropy over all points that lie in their region.

        Args:
            logits: What `forward` returned for the regions of `regions_with_points`.
            samples: Regions of each image, and what they are.
        """
        shown = [regions_with_points(sample) for sample in samples]
        points = [
            keypoints_of(sample)[sample.objects[which]]
            for sample, which in zip(samples, shown, strict=True)
        ]
        regions = [
            sample.boxes[: sample.num_foreground][which]
            for sample, which in zip(samples, shown, strict=True)
        ]
        cells, is_inside = points_to_cells(torch.cat(points), torch.cat(regions), MAP_SIDE)
        total = F.cross_entropy(
            logits.float().flatten(2)[is_inside], cells[is_inside], reduction="sum"
        )
        # In images without a single labelled point nothing is learned.
        return total / is_inside.sum().clamp(min=1)


def regions_with_points(sample: RegionSamples) -> Bool[Tensor, " M"]:
    """Tell which foreground regions show a labelled point of their object; others teach nothing.

    Args:
        sample: Regions of one image.
    """
    points = keypoints_of(sample)[sample.objects]
    boxes = sample.boxes[: sample.num_foreground]
    return points_to_cells(points, boxes, MAP_SIDE)[1].any(dim=1)


def keypoints_of(sample: RegionSamples) -> Float[Tensor, "N P 3"]:
    """Return the points of the true objects of an image.

    Args:
        sample: Regions of one image.

    Raises:
        ValueError: If the true objects have no points.
    """
    if sample.target.keypoints is None:
        raise ValueError("a keypoint branch is trained on objects with keypoints, got none")
    return sample.target.keypoints.points
