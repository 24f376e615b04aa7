"""Read examples of a checked data set with their annotations, to be drawn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ziggurat.class_lists import Colour
from ziggurat.data.class_masks import read_mask
from ziggurat.data.decode import decode_image
from ziggurat.data.findings import Example, ExampleObject
from ziggurat.data.label_files import Labels, read_labels
from ziggurat.data.segments import SegmentTable
from ziggurat.keypoints import Keypoints, Skeleton
from ziggurat.ops.skeletons import PIXEL_CENTRE
from ziggurat.types import UNLABELLED, Detections, ImageSize


@dataclass(frozen=True)
class Preview:
    """An image and what is known of it.

    Attributes:
        image: The picture, upright, in RGB.
        caption: What to write below it.
        classes: Name of each label.
        objects: True objects in pixels of the picture, for detection.
        label_map: Class of each pixel, 255 = unlabelled, for segmentation.
        palette: Colour of each class, where the data set has some.
    """

    image: Image.Image
    caption: str
    classes: tuple[str, ...]
    objects: Detections | None = None
    label_map: Labels | None = None
    palette: tuple[Colour, ...] | None = None


def read_preview(example: Example) -> Preview:
    """Decode an example's image and annotations."""
    image = decode_image(example.image)
    objects = label_map = palette = None
    if example.objects is not None:
        objects = _detections(example.objects, (image.height, image.width), example.skeleton)
    if example.label_map is not None and example.rule is not None:
        label_map = read_labels(example.label_map, example.rule)
        palette = example.rule.palette
    if example.masks is not None:
        label_map = _on_top_of_each_other(example.masks, (image.height, image.width))
    return Preview(image, example.caption, example.classes, objects, label_map, palette)


def _on_top_of_each_other(masks: dict[int, Path], size: ImageSize) -> Labels:
    """Show overlapping classes in one map, the smallest on top."""
    inside = {label: read_mask(path, size) for label, path in masks.items()}
    labels = np.full(size, UNLABELLED, dtype=np.uint8)
    for label in sorted(inside, key=lambda label: -int(inside[label].sum())):
        labels[inside[label]] = label
    return labels


def _detections(
    objects: tuple[ExampleObject, ...], size: ImageSize, skeleton: Skeleton | None
) -> Detections:
    corners = [(x, y, x + w, y + h) for x, y, w, h in (found.box for found in objects)]
    masks = None
    if any(found.segment.parts for found in objects):
        segments = SegmentTable.of([found.segment for found in objects])
        masks = segments.masks(0, len(objects), size)
    keypoints = None
    if skeleton is not None:
        points = [found.points for found in objects if found.points is not None]
        moved = np.array(points).reshape(-1, len(skeleton), 3) + [PIXEL_CENTRE, PIXEL_CENTRE, 0]
        keypoints = Keypoints(torch.from_numpy(moved), skeleton)
    return Detections(
        boxes=torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        scores=torch.ones(len(objects)),
        labels=torch.tensor([found.label for found in objects], dtype=torch.int64),
        masks=masks,
        keypoints=keypoints,
    )
