"""The box branch of region-based detectors (Girshick, Fast R-CNN, arXiv:1504.08083).

Every region is one example: what it shows, background included, and how to move it.

Shapes: M regions of a batch, K foreground classes; class K is background.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

from ziggurat.heads.roi_samples import RegionSamples
from ziggurat.layers.conv_norm import ConvNorm, NormBuilder
from ziggurat.layers.initialization import init_convolutions
from ziggurat.layers.linear_norm import LinearNorm
from ziggurat.ops.boxes import Stds, decode_deltas, encode_deltas, scale_boxes
from ziggurat.ops.nms import BoxCandidates
from ziggurat.types import ImageSize, scale_between

POOLED_SIDE = 7
"""Side of a region on a level after RoIAlign, in cells."""
HIDDEN = 1024
STDS: Stds = (0.1, 0.1, 0.2, 0.2)
SCORE_THRESHOLD = 0.05
NMS_IOU = 0.5
MAX_DETECTIONS = 100


class BoxOutput(NamedTuple):
    """Raw output for the regions of a batch.

    Attributes:
        logits: (M, K + 1), background last.
        deltas: (M, K * 4), relative to the region, for each class its own.
    """

    logits: Tensor
    deltas: Tensor


class BoxHead(nn.Module):
    """Classify regions and move them.

    Args:
        in_channels: Channels of the levels.
        num_classes: Number of foreground classes K.
        num_convs: 3x3 convolutions with norms in front of the fully connected layers.
        num_linears: Fully connected layers.
        stds: What the deltas are divided by.
        norm: Builds the norms of the convolutions.
        linear_norm: Builds a norm behind each fully connected layer; None for none.
        num_cells: Cells of what comes in: of a region, or 1 where pooling made vectors of them.
        beta: Where the box loss turns from a square to a line; 0 is an L1 loss.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        num_convs: int = 0,
        num_linears: int = 2,
        stds: Stds = STDS,
        norm: NormBuilder = nn.BatchNorm2d,
        linear_norm: NormBuilder | None = None,
        num_cells: int = POOLED_SIDE**2,
        beta: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stds = stds
        self.beta = beta
        self.convs = nn.ModuleList(
            ConvNorm(in_channels, in_channels, 3, norm=norm) for _ in range(num_convs)
        )
        init_convolutions(self)
        widths = [in_channels * num_cells, *[HIDDEN] * num_linears]
        self.linears = nn.ModuleList(
            nn.Linear(a, b) if linear_norm is None else LinearNorm(a, b, linear_norm)
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.logits = nn.Linear(HIDDEN, num_classes + 1)
        self.deltas = nn.Linear(HIDDEN, num_classes * 4)
        for linear in self.linears.modules():
            if isinstance(linear, nn.Linear):
                nn.init.xavier_uniform_(linear.weight)
                nn.init.zeros_(linear.bias)
        for output, std in ((self.logits, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(output.weight, std=std)
            nn.init.zeros_(output.bias)

    def forward(self, regions: Float[Tensor, "M C *cells"]) -> BoxOutput:
        """Return logits and deltas of every region."""
        x = regions
        for conv in self.convs:
            x = conv(x).relu_()
        x = x.flatten(1)
        for linear in self.linears:
            x = linear(x).relu_()
        return BoxOutput(self.logits(x), self.deltas(x))

    def loss(
        self, raw: BoxOutput, samples: Sequence[RegionSamples], *, giou_weight: float = 0.0
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the losses of classes and of boxes, both divided by the number of regions.

        Args:
            raw: What `forward` returned for the regions of all samples.
            samples: Regions of each image, and what they are.
            giou_weight: Weight of a GIoU loss on the moved boxes instead of L1 on the deltas.
        """
        labels = torch.cat([sample.labels for sample in samples])
        # No image has a region only if nothing was proposed and nothing is there.
        classification = F.cross_entropy(raw.logits.float(), labels, reduction="sum")
        classification = classification / max(len(labels), 1)
        foreground = (labels < self.num_classes).nonzero().flatten()
        deltas = self.deltas_of(raw.deltas[foreground].float(), labels[foreground])
        regions = torch.cat([sample.boxes for sample in samples])[foreground]
        true = torch.cat([sample.target.boxes[sample.objects] for sample in samples])
        if giou_weight:
            moved = decode_deltas(regions, deltas, None, self.stds)
            box = giou_weight * generalized_box_iou_loss(moved, true, reduction="sum", eps=1e-6)
        else:
            goal = encode_deltas(regions, true, self.stds)
            box = F.smooth_l1_loss(deltas, goal, reduction="sum", beta=self.beta)
        return classification, box / max(len(labels), 1) + raw.deltas.float().sum() * 0

    def deltas_of(
        self, deltas: Float[Tensor, "M _"], labels: Int[Tensor, " M"]
    ) -> Float[Tensor, "M 4"]:
        """Return the deltas of one class of each region.

        Args:
            deltas: Deltas of every class.
            labels: Foreground class of each region.
        """
        rows = torch.arange(len(labels), device=labels.device)
        return deltas.view(len(deltas), self.num_classes, 4)[rows, labels]

    def refine(
        self,
        regions: Float[Tensor, "M 4"],
        deltas: Float[Tensor, "M _"],
        labels: Int[Tensor, " M"],
        image_size: ImageSize,
    ) -> Float[Tensor, "M 4"]:
        """Move each region as its class says, for a next stage to look again.

        Args:
            regions: Regions of one image, in pixels.
            deltas: Deltas of every class.
            labels: Foreground class of each region.
            image_size: Height and width of the image; boxes are cut there.
        """
        return decode_deltas(regions, self.deltas_of(deltas, labels), image_size, self.stds)

    def candidates(
        self,
        regions: Float[Tensor, "M 4"],
        raw: BoxOutput,
        image_size: ImageSize,
        original_size: ImageSize,
    ) -> BoxCandidates:
        """Return what may be a detection of one image in pixels of the original.

        Args:
            regions: Regions of the image, in pixels.
            raw: What `forward` returned for them.
            image_size: Height and width of the image without its padding.
            original_size: Height and width before resizing.
        """
        scores = raw.logits.float().softmax(dim=1)[:, :-1]
        # Only what passes the threshold is decoded: a few of the M * K boxes.
        candidates, labels = (scores > SCORE_THRESHOLD).nonzero(as_tuple=True)
        deltas = raw.deltas.view(len(regions), self.num_classes, 4)[candidates, labels].float()
        boxes = decode_deltas(regions[candidates], deltas, image_size, self.stds)
        return BoxCandidates(
            scale_boxes(boxes, scale_between(image_size, original_size)),
            scores[candidates, labels],
            labels,
            iou=NMS_IOU,
            max_detections=MAX_DETECTIONS,
        )
