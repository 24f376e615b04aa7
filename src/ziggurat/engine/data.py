"""The data of a run: data sets, what the model must expect of an image, and the metric."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ziggurat.cards import MODELS
from ziggurat.config.data import ClassificationData, DetectionData, SegmentationData
from ziggurat.config.tree import ModelConfig, TrainConfig
from ziggurat.data.class_masks import ClassMaskFolder, find_class_masks
from ziggurat.data.classification import eval_transform, train_transform
from ziggurat.data.coco import MIN_TRAIN_SIDE, CocoDetection
from ziggurat.data.coco_file import Annotations
from ziggurat.data.detection import CropFirst, DetectionTransform, ScaleJitter
from ziggurat.data.detection_layouts import find_split
from ziggurat.data.fast_decode import FastTrainTransform
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.labelled_images import LabelledImages, open_images
from ziggurat.data.loading import EvaluationLoader, TrainingLoader
from ziggurat.data.segmentation import EvalSegmentation, SegmentationTransform
from ziggurat.errors import ZigguratError
from ziggurat.keypoints import Skeleton
from ziggurat.metrics.base import Metric
from ziggurat.metrics.classification import ClassificationMetric
from ziggurat.metrics.coco import CocoMetric
from ziggurat.metrics.coco_truth import read_truth
from ziggurat.metrics.multi_label import MultiLabelMetric
from ziggurat.metrics.segmentation import SegmentationMetric
from ziggurat.preprocessing import CenterCrop, FitAligned, FitInside, Pixels, Preprocessing
from ziggurat.types import Batch, Task
from ziggurat.zoo import combination_of, pixels_of


@dataclass(frozen=True)
class RunData:
    """All that a run needs to know of its data.

    Attributes:
        train: Images to train on.
        val: Images to validate on.
        classes: Name of each class.
        preprocessing: What the model expects of an image.
        new_metric: Makes the metric of the validation split for a model with these classes.
        divisor: Height and width of a batch are multiples of this.
        notes: What was left out in training, and what no model can find in validation, a sentence
            each.
        skeleton: What the keypoints of the objects are; None where the task has none.
    """

    train: LabelledImages | CocoDetection | LabelFolder | ClassMaskFolder
    val: LabelledImages | CocoDetection | LabelFolder | ClassMaskFolder
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    new_metric: Callable[[tuple[str, ...]], Metric]
    divisor: int
    notes: tuple[str, ...] = ()
    skeleton: Skeleton | None = None

    @property
    def overlapping(self) -> bool:
        """Whether a pixel can be of several classes."""
        return isinstance(self.train, ClassMaskFolder)


def build_data(config: TrainConfig) -> RunData:
    """Open the data sets of a run.

    Args:
        config: The run.
    """
    if isinstance(config.data, ClassificationData):
        return _classification(config.data, config.trainer.seed)
    if isinstance(config.data, SegmentationData):
        return _segmentation(config.data, _pixels(config.model), config.trainer.seed)
    return _detection(config.data, _pixels(config.model), config.trainer.seed, config.task)


def _pixels(model: ModelConfig) -> Pixels:
    """Return the numbers that the weights of the model's backbone want images in."""
    named = MODELS.get(model.name) or combination_of(model.name)
    backbone = model.backbone if named is None else named.backbone
    # A name that is missing or unknown is refused where the model is built.
    return pixels_of(backbone or "")


def training_loader(
    data: RunData, config: TrainConfig, *, rank: int, world_size: int, is_pinned: bool = False
) -> TrainingLoader:
    """Build the loader of training batches.

    Args:
        data: Data of the run.
        config: The run.
        rank: Number of this process.
        world_size: Number of processes.
        is_pinned: Whether batches are for an NVIDIA GPU, and lie in page-locked memory.
    """
    is_classification = isinstance(config.data, ClassificationData)
    return TrainingLoader(
        data.train,
        batch_size=config.data.batch_size,
        divisor=data.divisor,
        workers=config.data.workers,
        seed=config.trainer.seed,
        rank=rank,
        world_size=world_size,
        # Officially a classifier leaves out what fills no batch and the others repeat images.
        drop_last=is_classification,
        group_by_aspect=isinstance(config.data, DetectionData),
        repeats=(
            config.data.augmentation_repeats if isinstance(config.data, ClassificationData) else 1
        ),
        is_pinned=is_pinned,
    )


def validation_loader(
    data: RunData, config: TrainConfig, *, rank: int, world_size: int, is_pinned: bool = False
) -> EvaluationLoader:
    """Build the loader of validation batches; each image once over all processes.

    Args:
        data: Data of the run.
        config: The run.
        rank: Number of this process.
        world_size: Number of processes.
        is_pinned: Whether batches are for an NVIDIA GPU, and lie in page-locked memory.
    """
    return EvaluationLoader(
        data.val,
        batch_size=config.data.eval_batch_size,
        divisor=data.divisor,
        workers=config.data.workers,
        rank=rank,
        world_size=world_size,
        is_pinned=is_pinned,
    )


def batch_to(batch: Batch, device: torch.device) -> Batch:
    """Copy images and targets of a batch to a device.

    Args:
        batch: The batch.
        device: Where to.
    """
    targets: Any = batch.targets  # labels, or what an image shows, of one kind
    if isinstance(targets, Tensor):
        targets = targets.to(device, non_blocking=True)
    elif targets is not None:
        targets = [target.to(device, non_blocking=True) for target in targets]
    return replace(batch, images=batch.images.to(device, non_blocking=True), targets=targets)


def _classification(data: ClassificationData, seed: int) -> RunData:
    root = Path(data.root)
    crop = data.eval_image_size or data.image_size
    preprocessing = CenterCrop(resize=data.resize, crop=crop)
    exact = train_transform(
        data.image_size,
        auto_augment=data.auto_augment,
        color_jitter=data.color_jitter,
        random_erasing=data.random_erasing,
        scale=data.crop_scale,
        flip=data.flip,
        preprocessing=preprocessing,
    )
    train = open_images(
        root,
        data.train_split,
        exact if data.decoder == "exact" else FastTrainTransform(exact),
        train=True,
        seed=seed,
    )
    val = open_images(
        root,
        data.val_split,
        eval_transform(preprocessing),
        train=False,
        classes=train.classes,
        seed=seed,
    )
    return RunData(train, val, train.classes, preprocessing, ClassificationMetric, divisor=1)


def _detection(data: DetectionData, pixels: Pixels, seed: int, task: Task) -> RunData:
    with_masks, with_keypoints = task == "instance_segmentation", task == "keypoint_detection"
    if data.copy_paste and not with_masks:
        learned = "keypoints" if with_keypoints else "boxes only"
        raise ZigguratError(
            f"data.copy_paste = {data.copy_paste} needs masks, and a model of the task {task} "
            f"learns {learned}; set it to 0 or train a model with masks (mask_rcnn_...)"
        )
    preprocessing = FitInside(
        short_side=data.short_side, long_side=data.long_side, **asdict(pixels)
    )
    train_files, val_files = (
        _files(data, split, with_masks=with_masks, with_keypoints=with_keypoints)
        for split in ("train", "val")
    )
    train = CocoDetection(
        *train_files,
        _train_transform(data, preprocessing),
        train=True,
        keep_empty=data.keep_empty,
        with_masks=with_masks,
        copy_paste=data.copy_paste,
        with_keypoints=with_keypoints,
        seed=seed,
    )
    val = CocoDetection(
        *val_files,
        DetectionTransform(preprocessing, flip=0.0, scales=None, exact_resize=True),
        train=False,
        keep_empty=True,
        with_masks=with_masks,
        with_keypoints=with_keypoints,
        seed=seed,
    )
    if train.classes != val.classes:
        raise ZigguratError(
            f"{_name(train_files[0])} and {_name(val_files[0])} must have the same categories, got "
            f"{_difference(train.classes, val.classes)}; give both files one list"
        )
    if train.file.skeleton != val.file.skeleton:
        raise ZigguratError(
            f"{_name(train_files[0])} and {_name(val_files[0])} must have the same keypoints, "
            "skeleton and flip_pairs in their categories; give both files the same"
        )
    # Read before training, since what an evaluation needs may be missing.
    truth = read_truth(
        val_files[0].content if isinstance(val_files[0], Annotations) else val_files[0],
        with_masks=with_masks,
        with_keypoints=with_keypoints,
    )

    def new_metric(classes: tuple[str, ...]) -> CocoMetric:
        # Classes beyond those of the data, where the run asks for more, have no category.
        ids = (*val.category_ids, *[None] * (len(classes) - len(val.category_ids)))
        return CocoMetric(truth, ids, classes, with_masks=with_masks, with_keypoints=with_keypoints)

    return RunData(
        train,
        val,
        train.classes,
        preprocessing,
        new_metric,
        divisor=preprocessing.divisor,
        notes=(*_notes_of_training(train), *val.file.notes_of_evaluation()),
        skeleton=train.file.skeleton,
    )


def _segmentation(data: SegmentationData, pixels: Pixels, seed: int) -> RunData:
    root = Path(data.root)
    preprocessing = FitAligned(data.short_side, data.long_side, data.divisor, **asdict(pixels))
    transform = SegmentationTransform(
        preprocessing,
        data.crop,
        scale=data.scale,
        flip=data.flip,
        largest_share=data.largest_share,
        is_distorted=data.distort,
        is_fast=data.fast_train_resize,
    )
    mask_root = find_class_masks(root) if data.layout is None else None
    if mask_root is not None:
        masks = ClassMaskFolder(mask_root, data.train_split, transform, train=True, seed=seed)
        val_masks = ClassMaskFolder(
            mask_root, data.val_split, EvalSegmentation(preprocessing), train=False, seed=seed
        )
        return RunData(masks, val_masks, masks.classes, preprocessing, MultiLabelMetric, divisor=1)
    train = LabelFolder(
        root, data.train_split, transform, train=True, seed=seed, layout=data.layout
    )
    val = LabelFolder(
        root,
        data.val_split,
        EvalSegmentation(preprocessing),
        train=False,
        seed=seed,
        layout=train.layout,
    )
    return RunData(train, val, train.classes, preprocessing, SegmentationMetric, divisor=1)


def _notes_of_training(dataset: CocoDetection) -> list[str]:
    notes = []
    counts = ", ".join(f"{count} x {what}" for what, count in dataset.file.left_out.items())
    if counts:
        notes.append(f"{dataset.file.path}: left out as no target: {counts}")
    num_images = len(dataset.file.image_ids)
    if dataset.num_empty:
        notes.append(
            f"{dataset.file.path}: {dataset.num_empty} of {num_images} images have no objects and "
            "are not trained on; data.keep_empty=true trains on them"
        )
    if dataset.num_small:
        notes.append(
            f"{dataset.file.path}: {dataset.num_small} of {num_images} images have a side below "
            f"{MIN_TRAIN_SIDE} pixels and are not trained on"
        )
    return notes


def _train_transform(data: DetectionData, preprocessing: FitInside) -> DetectionTransform:
    crop_first = jitter = None
    if data.crop_first > 0:
        crop_first = CropFirst(data.crop_first, data.crop_first_short_sides, data.crop_first_sides)
    if data.scale_jitter is not None:
        jitter = ScaleJitter(data.scale_jitter, data.jitter_side)
    return DetectionTransform(
        preprocessing,
        flip=data.flip,
        scales=data.train_short_sides,
        exact_resize=not data.fast_train_resize,
        crop_first=crop_first,
        max_side=data.max_train_side,
        jitter=jitter,
    )


def _files(
    data: DetectionData, split: str, *, with_masks: bool, with_keypoints: bool
) -> tuple[Path | Annotations, Path]:
    annotations, images, name = {
        "train": (data.train_annotations, data.train_images, data.train_split),
        "val": (data.val_annotations, data.val_images, data.val_split),
    }[split]
    root = Path(data.root)
    if annotations is None or images is None:
        return find_split(root, name, with_masks=with_masks, with_keypoints=with_keypoints)
    return root / annotations, root / images


def _name(annotations: Path | Annotations) -> Path:
    return annotations if isinstance(annotations, Path) else annotations.path


def _difference(train: tuple[str, ...], val: tuple[str, ...]) -> str:
    only = [f"only in the first: {name}" for name in train if name not in val]
    only += [f"only in the second: {name}" for name in val if name not in train]
    return ", ".join(only[:4]) or "the same names in another order"
