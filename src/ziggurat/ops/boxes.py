"""Boxes as differences from other boxes, and back."""

from collections.abc import Sequence
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.types import Detections, ImageSize, scale_between

MAX_LOG_RATIO = abs(log(16 / 1000))
"""A decoded box is at most 62.5 times as wide or high as its anchor, nor as many times smaller."""


SMALLEST_AREA = 1e-6
"""What an area is at least where it divides."""

Stds = tuple[float, float, float, float]
"""What (dx, dy, dw, dh) are divided by, so that a network predicts numbers of about one."""

UNIT_STDS: Stds = (1.0, 1.0, 1.0, 1.0)


def encode_deltas(
    anchors: Float[Tensor, "N 4"], boxes: Float[Tensor, "N 4"], stds: Stds = UNIT_STDS
) -> Float[Tensor, "N 4"]:
    """Describe boxes relative to anchors as (dx, dy, dw, dh).

    Girshick et al., arXiv:1311.2524, appendix C: shifts of the centre in anchor sizes, logarithms
    of the size ratios.
    """
    width, height = _sides(anchors)
    dx = ((boxes[:, 0] + boxes[:, 2]) - (anchors[:, 0] + anchors[:, 2])) / 2 / width
    dy = ((boxes[:, 1] + boxes[:, 3]) - (anchors[:, 1] + anchors[:, 3])) / 2 / height
    box_width, box_height = _sides(boxes)
    deltas = torch.stack([dx, dy, (box_width / width).log(), (box_height / height).log()], dim=1)
    return deltas if stds == UNIT_STDS else deltas / deltas.new_tensor(stds)


def decode_deltas(
    anchors: Float[Tensor, "N 4"],
    deltas: Float[Tensor, "N 4"],
    image_size: ImageSize | None,
    stds: Stds = UNIT_STDS,
) -> Float[Tensor, "N 4"]:
    """Apply (dx, dy, dw, dh) to anchors and cut the boxes at the border of the image, if given.

    The inverse of `encode_deltas` inside the image. Size ratios are limited on both sides;
    torchvision limits only growth.
    """
    if stds != UNIT_STDS:
        deltas = deltas * deltas.new_tensor(stds)
    width, height = _sides(anchors)
    center_x = (anchors[:, 0] + anchors[:, 2]) / 2 + deltas[:, 0] * width
    center_y = (anchors[:, 1] + anchors[:, 3]) / 2 + deltas[:, 1] * height
    log_ratios = deltas[:, 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    half_width = width * log_ratios[:, 0].exp() / 2
    half_height = height * log_ratios[:, 1].exp() / 2
    boxes = torch.stack(
        [
            center_x - half_width,
            center_y - half_height,
            center_x + half_width,
            center_y + half_height,
        ],
        dim=1,
    )
    return boxes if image_size is None else clip_boxes(boxes, image_size)


def clip_boxes(boxes: Float[Tensor, "N 4"], image_size: ImageSize) -> Float[Tensor, "N 4"]:
    """Cut boxes at the border: x in [0, width], y in [0, height]."""
    height, width = image_size
    x = boxes[:, 0::2].clamp(0, width)
    y = boxes[:, 1::2].clamp(0, height)
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)


def scale_boxes(boxes: Float[Tensor, "N 4"], factors: tuple[float, float]) -> Float[Tensor, "N 4"]:
    """Divide x by the first and y by the second factor."""
    return boxes / boxes.new_tensor([*factors, *factors])


def boxes_as_resized(
    found: Sequence[Detections],
    image_sizes: Sequence[ImageSize],
    original_sizes: Sequence[ImageSize],
) -> list[Float[Tensor, "_ 4"]]:
    """Return the boxes of objects in pixels of the images as a model saw them.

    Args:
        found: Objects of each image, in pixels of the original.
        image_sizes: Height and width of each image without its padding.
        original_sizes: Sizes before resizing.
    """
    return [
        scale_boxes(objects.boxes, scale_between(original, size))
        for objects, size, original in zip(found, image_sizes, original_sizes, strict=True)
    ]


def paired_iou(
    boxes: Float[Tensor, "*#N 4"], others: Float[Tensor, "*#N 4"]
) -> Float[Tensor, "*#N"]:
    """Return the IoU of each box with the other one in its place."""
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    left, top, right, bottom = others.unbind(dim=-1)
    width = (torch.minimum(x2, right) - torch.maximum(x1, left)).clamp(min=0)
    overlap = (torch.minimum(y2, bottom) - torch.maximum(y1, top)).clamp(min=0) * width
    areas = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top)
    return overlap / (areas - overlap).clamp(min=SMALLEST_AREA)


def _sides(boxes: Float[Tensor, "N 4"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    return boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
