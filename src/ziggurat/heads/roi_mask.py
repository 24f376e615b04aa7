"""The mask branch of Mask R-CNN (He et al., arXiv:1703.06870, section 3).

A small fully convolutional network draws a mask of 28 x 28 for each class on every region; the box
branch says which class counts, so that masks of different classes do not compete.

Shapes: M regions of a batch, K classes, P regions on objects.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ziggurat.heads.roi_samples import RegionSamples
from ziggurat.ops.region_masks import masks_in_regions

POOLED_SIDE = 14
"""Side of a region on a level after RoIAlign, in cells."""
MASK_SIDE = 28
DEPTH = 4


class MaskHead(nn.Module):
    """Four convolutions, a doubling, and a mask for each class.

    Args:
        in_channels: Channels of the levels.
        num_classes: Number of classes K.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(in_channels, in_channels, 3, padding=1) for _ in range(DEPTH)
        )
        self.upsample = nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2)
        self.logits = nn.Conv2d(in_channels, num_classes, 1)
        for module in (*self.convs, self.upsample, self.logits):
            assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def forward(self, regions: Float[Tensor, "M C 14 14"]) -> Float[Tensor, "M K 28 28"]:
        """Return mask logits of every class."""
        x = regions
        for conv in self.convs:
            x = conv(x).relu_()
        logits: Tensor = self.logits(self.upsample(x).relu_())
        return logits


def mask_loss(
    logits: Float[Tensor, "P K 28 28"], samples: Sequence[RegionSamples]
) -> Float[Tensor, ""]:
    """Return the mean cross entropy of the pixels of each object's own class.

    Args:
        logits: Masks of every class for the foreground regions of all samples.
        samples: Regions of each image, and what they are.
    """
    labels = torch.cat([sample.labels[: sample.num_foreground] for sample in samples])
    if not len(labels):
        return logits.float().sum() * 0
    targets = torch.cat([mask_targets(sample) for sample in samples])
    chosen = mask_of_class(logits, labels).float()
    return F.binary_cross_entropy_with_logits(chosen, targets)


def mask_of_class(
    logits: Float[Tensor, "M K 28 28"], labels: Int[Tensor, " M"]
) -> Float[Tensor, "M 28 28"]:
    """Return the mask of one class of each region.

    Args:
        logits: Masks of every class.
        labels: Class of each region.
    """
    return logits[torch.arange(len(labels), device=labels.device), labels]


def mask_targets(sample: RegionSamples) -> Float[Tensor, "P 28 28"]:
    """Return the part of its object's mask that each foreground region shows, as zeros and ones.

    Args:
        sample: Regions of one image.

    Raises:
        ValueError: If the true objects have no masks.
    """
    masks = sample.target.masks
    if masks is None:
        raise ValueError("a mask branch is trained on objects with masks, got boxes only")
    boxes = sample.boxes[: sample.num_foreground]
    return masks_in_regions(masks, sample.objects, boxes, MASK_SIDE)
