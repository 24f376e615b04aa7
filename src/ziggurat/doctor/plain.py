"""Images of a run as its model sees them, without augmentation, and smaller where time is short."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ziggurat.config.data import ClassificationData, DetectionData, SegmentationData
from ziggurat.data.class_masks import ClassMaskFolder
from ziggurat.data.classification import eval_transform
from ziggurat.data.coco import CocoDetection
from ziggurat.data.detection import DetectionTransform
from ziggurat.data.findings import evenly
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.labelled_images import LabelledImages
from ziggurat.data.loading import collate
from ziggurat.data.segmentation import SegmentationTransform
from ziggurat.data.storage import FileStorage
from ziggurat.doctor.subject import Subject
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import CenterCrop, FitAligned, FitInside, scaled_limits
from ziggurat.types import Batch

STRIDE = 32
"""Sides are rounded to multiples of this, in pixels."""

Images = LabelledImages | CocoDetection | LabelFolder | ClassMaskFolder


def training_side(subject: Subject) -> int:
    """Return the shorter side in pixels of the largest image that the model is trained on."""
    data = subject.config.data
    if isinstance(data, ClassificationData):
        return data.image_size
    if isinstance(data, SegmentationData):
        return min(data.crop)
    if data.scale_jitter is not None:
        return data.jitter_side
    return min(max(data.train_short_sides or (data.short_side,)), data.max_train_side or 10**9)


def plain_batch(subject: Subject, indices: Sequence[int], side: int) -> Batch:
    """Return training images and targets without augmentation; equal calls give equal values.

    Args:
        subject: The run.
        indices: Which images.
        side: Shorter side of what the model would see, in pixels; the longer one follows.

    Raises:
        ZigguratError: If no image can be decoded.
    """
    scale = side / training_side(subject)
    images = copy.copy(subject.data.train)  # the same files, another transform
    images.transform = _transform(subject, scale)
    if isinstance(images, CocoDetection):
        images.copy_paste = 0.0
    batch = collate([images[0, index] for index in indices], subject.data.divisor)
    if not len(batch.images):
        first = batch.skipped[0]
        raise ZigguratError(
            f"{len(batch.skipped)} training images cannot be decoded, the first of them "
            f"{first.path}: {first.reason}; check the data set"
        )
    return batch


def some_indices(subject: Subject, count: int) -> list[int]:
    """Choose training images, spread evenly over all of them."""
    return evenly(len(subject.data.train), count)


def image_paths(images: Images) -> list[Path] | None:
    """Return the file of every image of a data set; None where many share a file."""
    if isinstance(images, LabelledImages):
        storage = images.storage
        if not isinstance(storage, FileStorage):
            return None
        return [Path(storage.name(index)) for index in range(len(images))]
    if isinstance(images, CocoDetection):
        return [images.folder / images.file.file_names[row] for row in images.rows]
    if isinstance(images, LabelFolder):
        return [image for image, _ in images.pairs]
    return list(images.images)


def _transform(subject: Subject, scale: float) -> Any:  # noqa: ANN401  each task has its own
    data, preprocessing = subject.config.data, subject.data.preprocessing
    if isinstance(data, ClassificationData) and isinstance(preprocessing, CenterCrop):
        crop = _aligned(data.image_size * scale)
        resize = max(crop, round(crop * preprocessing.resize / preprocessing.crop))
        return eval_transform(replace(preprocessing, resize=resize, crop=crop))
    if isinstance(data, SegmentationData) and isinstance(preprocessing, FitAligned):
        return SegmentationTransform(
            scaled_limits(preprocessing, scale),
            (_aligned(data.crop[0] * scale), _aligned(data.crop[1] * scale)),
            scale=(1.0, 1.0),
            flip=0.0,
            largest_share=1.0,
            is_distorted=False,
            is_fast=True,
        )
    assert isinstance(data, DetectionData) and isinstance(preprocessing, FitInside)
    sides = (max(data.train_short_sides or (data.short_side,)), data.long_side)
    if data.scale_jitter is not None:
        sides = (data.jitter_side, data.jitter_side)
    largest = replace(preprocessing, short_side=sides[0], long_side=sides[1])
    return DetectionTransform(
        scaled_limits(largest, scale),
        flip=0.0,
        scales=None,
        exact_resize=False,
        max_side=None if data.max_train_side is None else round(data.max_train_side * scale),
    )


def _aligned(side: float) -> int:
    return max(STRIDE, round(side / STRIDE) * STRIDE)
