"""What crosses layers: plain frozen dataclasses, shapes and units beside every field.

Shapes: N objects of an image, K classes, H x W an image, B images of a batch.
"""

from collections.abc import Callable, Sized
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from ziggurat.keypoints import Keypoints

DetectorTask = Literal["detection", "instance_segmentation", "keypoint_detection"]
Task = Literal["classification", DetectorTask, "semantic_segmentation"]
ImageSize = tuple[int, int]
"""(height, width), always in this order."""
UNLABELLED = 255
"""Label of pixels of a label map that nobody labelled; they do not count."""


@dataclass(frozen=True)
class ObjectMasks:
    """Masks of the N objects of an image, each stored for a window around the object only.

    A hundred masks of a photo of 8000 x 8000 pixels would fill 6 GB; their windows fill as much as
    the objects do.

    Attributes:
        pixels: Rows of all windows, one window after another.
        windows: left, top, width, height of each window in pixels, inside the image.
        size: Height and width of the image.
    """

    pixels: Bool[Tensor, " P"]
    windows: Int[Tensor, "N 4"]
    size: ImageSize

    @classmethod
    def from_full(cls, masks: Bool[Tensor, "N H W"]) -> "ObjectMasks":
        """Cut the smallest windows out of masks of the whole image."""
        windows, pixels = [], []
        for mask in masks:
            rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
            if not len(rows):
                windows.append([0, 0, 0, 0])
                continue
            top, left = int(rows[0]), int(columns[0])
            bottom, right = int(rows[-1]) + 1, int(columns[-1]) + 1
            windows.append([left, top, right - left, bottom - top])
            pixels.append(mask[top:bottom, left:right].flatten())
        nothing = masks.new_zeros(0)
        return cls(
            torch.cat([nothing, *pixels]),
            torch.tensor(windows, dtype=torch.int64, device=masks.device).view(-1, 4),
            (masks.shape[1], masks.shape[2]),
        )

    def __len__(self) -> int:
        return self.windows.shape[0]

    def crops(self) -> list[Bool[Tensor, "h w"]]:
        """Return the content of each window, without a copy."""
        sides = self.windows[:, 2:].tolist()
        parts = self.pixels.split([width * height for width, height in sides])
        return [
            part.view(height, width) for part, (width, height) in zip(parts, sides, strict=True)
        ]

    def full(self) -> Bool[Tensor, "N H W"]:
        """Return masks of the whole image: N * H * W bytes."""
        masks = self.pixels.new_zeros((len(self), *self.size))
        for mask, crop, window in zip(masks, self.crops(), self.windows.tolist(), strict=True):
            left, top, width, height = window
            mask[top : top + height, left : left + width] = crop
        return masks

    def __getitem__(self, which: Tensor) -> "ObjectMasks":
        """Keep some objects.

        Args:
            which: Indices, or a boolean for each object.
        """
        indices = torch.arange(len(self), device=self.windows.device)[which].tolist()
        crops = self.crops()
        kept = torch.cat([self.pixels[:0], *(crops[index].flatten() for index in indices)])
        return ObjectMasks(kept, self.windows[indices].view(-1, 4), self.size)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "ObjectMasks":
        """Copy to a device.

        Args:
            device: Where to.
            non_blocking: Whether to go on before all has arrived; only on the way to a GPU.
        """
        pixels = self.pixels.to(device, non_blocking=non_blocking)
        windows = self.windows.to(device, non_blocking=non_blocking)
        return replace(self, pixels=pixels, windows=windows)

    def pin_memory(self) -> "ObjectMasks":
        """Copy to page-locked memory."""
        return replace(self, pixels=self.pixels.pin_memory(), windows=self.windows.pin_memory())


@dataclass(frozen=True)
class Detections:
    """Objects of one image, found or true; a true object has the score 1.

    Attributes:
        boxes: x1, y1, x2, y2 in pixels of the image.
        scores: Confidence in [0, 1].
        labels: Class of each object, 0..K-1.
        masks: Pixels of each object, or None where there are boxes only.
        keypoints: Named points of each object, or None where there are none.
    """

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    labels: Int[Tensor, " N"]
    masks: ObjectMasks | None = None
    keypoints: Keypoints | None = None

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Detections":
        """Copy to a device.

        Args:
            device: Where to.
            non_blocking: Whether to go on before all has arrived; only on the way to a GPU.
        """
        return self._each(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Detections":
        """Copy to page-locked memory."""
        return self._each(lambda part: part.pin_memory())

    def select(self, which: Tensor) -> "Detections":
        """Keep some objects.

        Args:
            which: Indices, or a boolean for each object.
        """
        return self._each(lambda part: part[which])

    def _each(self, change: Callable[[Any], Any]) -> "Detections":
        return replace(self, **{k: change(v) for k, v in vars(self).items() if v is not None})

    def above(self, score: float) -> "Detections":
        """Keep the objects that are at least this sure."""
        return self.select(self.scores >= score)


@dataclass(frozen=True)
class ClassScores:
    """What a classifier says of one image.

    Attributes:
        scores: Probability of each class.
    """

    scores: Float[Tensor, " K"]

    def top(self, count: int) -> list[tuple[int, float]]:
        """Return the `count` most probable (label, score), best first."""
        scores, labels = self.scores.topk(min(count, len(self.scores)))
        return list(zip(labels.tolist(), scores.tolist(), strict=True))


@dataclass(frozen=True)
class LabelMap:
    """Class of every pixel of one image.

    Attributes:
        labels: 0..K-1; in true maps `UNLABELLED` where nobody labelled.
    """

    labels: Integer[Tensor, "H W"]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "LabelMap":
        """Copy to a device.

        Args:
            device: Where to.
            non_blocking: Whether to go on before all has arrived; only on the way to a GPU.
        """
        return LabelMap(self.labels.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "LabelMap":
        """Copy to page-locked memory."""
        return LabelMap(self.labels.pin_memory())


@dataclass(frozen=True)
class ClassMasks:
    """Pixels of each class of one image, where classes may overlap.

    Attributes:
        masks: Where each class is.
        ignored: Where nobody labelled, for all classes; nowhere in predictions.
    """

    masks: Bool[Tensor, "K H W"]
    ignored: Bool[Tensor, "H W"]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "ClassMasks":
        """Copy to a device.

        Args:
            device: Where to.
            non_blocking: Whether to go on before all has arrived; only on the way to a GPU.
        """
        masks = self.masks.to(device, non_blocking=non_blocking)
        return ClassMasks(masks, self.ignored.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "ClassMasks":
        """Copy to page-locked memory."""
        return ClassMasks(self.masks.pin_memory(), self.ignored.pin_memory())


Result = Detections | ClassScores | LabelMap | ClassMasks
"""What `decode` gives for one image."""


@dataclass(frozen=True)
class ImageInfo:
    """Where an image of a batch comes from.

    Attributes:
        image_id: Number of the image in its data set (the COCO id where there is one).
        path: File it was read from.
        original_size: Height and width of the file, before any resizing.
    """

    image_id: int
    path: str
    original_size: ImageSize


@dataclass(frozen=True)
class BadFile:
    """A file of a data set that could not be decoded, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Sample:
    """One image ready for a model.

    Attributes:
        image: Image as the model's `preprocessing` says: normalised, channels in its order.
        target: Label of the image, its objects, its label map, the masks of its classes, or None
            where nothing is known.
        info: Where it comes from.
        skipped: Files that could not be decoded and in whose place this one stands.
    """

    image: Float[Tensor, "3 H W"]
    target: int | Detections | LabelMap | ClassMasks | None
    info: ImageInfo
    skipped: tuple[BadFile, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Images padded to one size, with zeros at the right and at the bottom.

    Attributes:
        images: Images as the model's `preprocessing` says: normalised, channels in its order, in
            channels_last memory.
        image_sizes: Valid height and width of each image.
        targets: Labels (B,), or one `Detections` an image in pixels of the resized image, or one
            `LabelMap` or `ClassMasks` an image, or None where nothing is known.
        infos: Where each image comes from.
        skipped: Files that could not be decoded.
    """

    images: Float[Tensor, "B 3 H W"]
    image_sizes: list[ImageSize]
    targets: Tensor | list[Detections] | list[LabelMap] | list[ClassMasks] | None
    infos: list[ImageInfo]
    skipped: tuple[BadFile, ...] = ()

    def pin_memory(self) -> "Batch":
        """Copy to page-locked memory, from which a GPU reads while it computes.

        `DataLoader` looks for this method by its name.
        """
        pinned: Any = self.targets
        if isinstance(pinned, list):
            pinned = [target.pin_memory() for target in pinned]
        elif pinned is not None:
            pinned = pinned.pin_memory()
        return replace(self, images=self.images.pin_memory(), targets=pinned)


@dataclass(frozen=True)
class ModelIdentity:
    """All that `create_model` needs to build the same model again.

    Attributes:
        task: What the model does.
        system: Name of its system ("retinanet"), or "classifier".
        backbone: Name of the backbone.
        num_classes: Number of foreground classes K.
        neck: Name of what stands between backbone and head; None where nothing does.
        head_channels: Width of neck and head; None for a classifier.
        head_depth: Convolutions of each tower of a dense detector's head; None for other models.
        overlapping: Whether a pixel can be of several classes, each being asked for by itself.
        key_budget: Most keys that a pixel of a Feature Pyramid Transformer reads in a softmax;
            None for all, and for other necks.
        self_levels: How many of the coarsest maps look at themselves there; None likewise.
        grounding_window: Side of the square that its grounding reads; None as published.
        num_keypoints: Points of each object; None for a model that finds none.
        auxiliary_head: Whether a segmenter has an auxiliary head, which only training needs; None
            where it is as its system was published, and for other models.
    """

    task: Task
    system: str
    backbone: str
    num_classes: int
    neck: str | None = None
    head_channels: int | None = None
    head_depth: int | None = None
    overlapping: bool = False
    key_budget: int | None = None
    self_levels: int | None = None
    grounding_window: int | None = None
    num_keypoints: int | None = None
    auxiliary_head: bool | None = None

    @property
    def name(self) -> str:
        """The published name: "p2t_small", "retinanet_p2t_small", "mask_rcnn_fpt_resnet50"."""
        if self.task == "classification":
            return self.backbone
        neck = "" if self.neck in (None, "fpn") else f"{self.neck}_"
        if self.task == "semantic_segmentation":
            # "topformer_seg" and "topformer_tiny" are "topformer_seg_tiny".
            system = self.system.removesuffix("_cityscapes")
            suffix = "_cityscapes" if system != self.system else ""
            own = "topformer_" if system == "topformer_seg" else ""
            return f"{system}_{neck}{self.backbone.removeprefix(own)}{suffix}"
        if self.backbone.endswith("_adapter"):  # the published detectors on GPViT
            return f"{self.system}_{neck}{self.backbone.removesuffix('_adapter')}"
        plain = "plain_" if self.backbone.startswith("gpvit_") else ""
        return f"{self.system}_{neck}{plain}{self.backbone}"


def full_sizes(images: Tensor) -> list[ImageSize]:
    """Sizes of a batch without padding: every image fills its tensor."""
    return [(images.shape[-2], images.shape[-1])] * images.shape[0]


def scale_between(image_size: ImageSize, original_size: ImageSize) -> tuple[float, float]:
    """Factors (x, y) by which an image was resized."""
    return image_size[1] / original_size[1], image_size[0] / original_size[0]


def check_same_length(what: str, **counts: Sized) -> None:
    """Raise unless all sequences have one entry an image.

    Raises:
        ValueError: If two lengths differ.
    """
    lengths = {name: len(values) for name, values in counts.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{what} needs one entry an image in each, got lengths {lengths}")
