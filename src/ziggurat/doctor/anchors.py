"""Anchors against boxes: an object that no anchor fits is hardly learned."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.config.data import DetectionData
from ziggurat.data.coco import CocoDetection
from ziggurat.data.findings import evenly
from ziggurat.data.resize import fit_size
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.subject import Subject
from ziggurat.heads import retinanet, rpn
from ziggurat.ops.anchors import AnchorGrid
from ziggurat.ops.boxes import paired_iou
from ziggurat.zoo import Model

CHECK = "anchors"
MOST_IMAGES = 2000
SHARE_DOUBTFUL, SHARE_WRONG = 0.25, 0.6
"""Shares of boxes without an anchor; the first is far above COCO's at its published sizes."""
FACTORS = (0.5, 0.67, 1.5, 2.0, 3.0, 4.0)
"""Changes of the image size that may be suggested."""


def check_anchors(subject: Subject, clock: Clock) -> list[Finding]:
    """Count the boxes whose best anchor would be background but for its being the best."""
    del clock  # it takes no time
    found = _anchors(subject.model)
    data, images = subject.config.data, subject.data.train
    if (
        found is None
        or not isinstance(data, DetectionData)
        or not isinstance(images, CocoDetection)
    ):
        return []
    if data.scale_jitter is not None:  # every size comes
        return []
    grid, strides, least = found
    limits = (max(data.train_short_sides or (data.short_side,)), data.long_side)
    boxes = resized_boxes(images, *limits)
    iou = best_iou(boxes, grid, strides)
    share = float((iou < least).float().mean())
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    smallest, largest = (
        float((cell[:, 2:] - cell[:, :2]).prod(dim=1).sqrt().median())
        for cell in (grid.cell(min(strides)), grid.cell(max(strides)))
    )
    evidence = (
        f"{share:.0%} of {len(boxes)} boxes have no anchor of IoU {least}; boxes are "
        f"{float(sides.quantile(0.1)):.0f} to {float(sides.quantile(0.9)):.0f} pixels wide after "
        f"resizing, anchors {smallest:.0f} to {largest:.0f}"
    )
    if share < SHARE_DOUBTFUL:
        return [Finding(CHECK, "ok", evidence)]
    shares = {
        factor: float((best_iou(boxes * factor, grid, strides) < least).float().mean())
        for factor in FACTORS
    }
    factor = min(shares, key=lambda key: (round(shares[key], 2), abs(key - 1)))
    if shares[factor] < share / 2:
        fix = (
            f"set data.short_side {limits[0] * factor:.0f} and data.long_side "
            f"{limits[1] * factor:.0f}, which leave {shares[factor]:.0%} without"
        )
    else:
        fix = (
            "use a detector that needs no anchors of their shape (atss, sparse_rcnn, detr); no "
            "image size fits these boxes"
        )
    return [Finding(CHECK, "error" if share > SHARE_WRONG else "warning", evidence, fix)]


def resized_boxes(images: CocoDetection, short_side: int, long_side: int) -> Float[Tensor, "N 4"]:
    """Return the boxes of training images in pixels of the resized images.

    Args:
        images: The data set; of a large one images spread evenly over it are taken.
        short_side: Limit of the shorter side, in pixels.
        long_side: Limit of the longer side, in pixels.
    """
    parts = []
    for index in evenly(len(images), MOST_IMAGES):
        row = images.rows[index]
        start, stop = images.file.offsets[row : row + 2]
        height, width = images.file.sizes[row]
        new_height, new_width = fit_size((height, width), short_side, long_side)
        factors = np.array([new_width / width, new_height / height] * 2, dtype=np.float32)
        parts.append(images.file.boxes[start:stop] * factors)
    return torch.from_numpy(np.concatenate(parts))


def best_iou(
    boxes: Float[Tensor, "N 4"], grid: AnchorGrid, strides: Sequence[int]
) -> Float[Tensor, " N"]:
    """Return the IoU of each box with the anchor that fits it best, of those nearest to it.

    Args:
        boxes: Boxes in pixels.
        grid: Shapes of the anchors.
        strides: Stride of every level.
    """
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    best = boxes.new_zeros(len(boxes))
    for stride in strides:
        nearest = (centers / stride).round() * stride
        for anchor in grid.cell(stride):
            best = torch.maximum(best, paired_iou(nearest.repeat(1, 2) + anchor, boxes))
    return best


def _anchors(model: Model) -> tuple[AnchorGrid, tuple[int, ...], float] | None:
    """Find the anchors of a detector, their strides, and the IoU below which they are background.

    ATSS and GFL choose anchors by their statistics, whatever the IoU.
    """
    for module in model.head.modules():
        if isinstance(module, retinanet.RetinaNetHead):
            return retinanet.ANCHORS, module.strides, 0.4
        if isinstance(module, rpn.RPN):
            return rpn.ANCHORS, module.strides, 0.3
    return None
