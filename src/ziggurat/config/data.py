"""What a run trains on: one dataclass a task, a line of meaning under every field."""

from dataclasses import dataclass
from typing import Literal

from ziggurat.config.checks import (
    require,
    require_counts,
    require_default,
    require_fractions,
)

Decoder = Literal["exact", "fast"]


@dataclass(frozen=True)
class ClassificationData:
    """Images with a class each, and how they are decoded and augmented."""

    root: str
    """Folder of the data set: class folders, lists, LMDB or tar shards, as it is recognised."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split to validate on."""
    image_size: int = 224
    """Side of the square the model sees in training, in pixels."""
    eval_image_size: int | None = None
    """Side of the square it sees in evaluation and prediction, in pixels; null for image_size."""
    resize: int = 256
    """Short side before the middle square is cut out in evaluation, in pixels."""
    batch_size: int = 128
    """Training images per device and step."""
    eval_batch_size: int = 128
    """Validation images per device and batch."""
    workers: int = 8
    """Processes per device that read images; 0 reads in the training process."""
    augmentation_repeats: int = 1
    """Times an image is drawn in a row, each time augmented anew; an epoch keeps its length and so
    sees fewer images; 1 draws every image once."""
    decoder: Decoder = "exact"
    """How training images are decoded: exact as in evaluation, or fast with small differences."""
    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    """Augmentation policy in timm's notation; null for none."""
    color_jitter: float = 0.0
    """Strength of colour jitter; cannot be combined with auto_augment."""
    random_erasing: float = 0.25
    """Probability that a rectangle is replaced by noise."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest share of the image's area in a random crop."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    mixup: float = 0.8
    """Alpha of mixup's beta distribution; 0 turns it off."""
    cutmix: float = 1.0
    """Alpha of cutmix's beta distribution; 0 turns it off."""
    mix_probability: float = 1.0
    """Probability that the images of a batch are mixed, by mixup or cutmix."""
    label_smoothing: float = 0.1
    """Share of the target that is spread evenly over all classes."""
    max_bad_files: int = 10
    """Files that cannot be decoded before the run stops, counted in each process by itself."""

    def __post_init__(self) -> None:
        require(bool(self.root), "data.root", self.root, "the folder of the data set")
        require_counts("data", 1, batch_size=self.batch_size, eval_batch_size=self.eval_batch_size)
        sizes = {"image_size": self.image_size, "eval_image_size": self.eval_image_size}
        require_counts("data", 1, **sizes, resize=self.resize)
        require_counts("data", 1, augmentation_repeats=self.augmentation_repeats)
        require_counts("data", 0, workers=self.workers, max_bad_files=self.max_bad_files)
        name = "image_size" if self.eval_image_size is None else "eval_image_size"
        cropped = sizes[name] or 0
        fits = cropped <= self.resize
        require(fits, f"data.{name}", cropped, f"at most data.resize = {self.resize}")
        require_fractions("data", random_erasing=self.random_erasing, flip=self.flip)
        self._check_mixing()
        low, high = self.crop_scale
        require(
            0 < low <= high <= 1,
            "data.crop_scale",
            self.crop_scale,
            "two shares, 0 < low <= high <= 1",
        )
        for name in ("color_jitter", "mixup", "cutmix"):
            value = getattr(self, name)
            require(value >= 0, f"data.{name}", value, "at least 0")
        require(
            0 <= self.label_smoothing < 1,
            "data.label_smoothing",
            self.label_smoothing,
            "at least 0 and below 1",
        )
        require(
            self.auto_augment is None or self.color_jitter == 0,
            "data.color_jitter",
            self.color_jitter,
            "0 where data.auto_augment is set (or set data.auto_augment to null)",
        )

    def _check_mixing(self) -> None:
        require(
            not self.mixes or self.batch_size % 2 == 0,
            "data.batch_size",
            self.batch_size,
            "even where data.mixup or data.cutmix is on, since they mix pairs of images",
        )
        share = self.mix_probability
        require(
            0 < share <= 1,
            "data.mix_probability",
            share,
            "above 0 and at most 1 (data.mixup and data.cutmix turn mixing off)",
        )
        require(
            self.mixes or share == 1,
            "data.mix_probability",
            share,
            "1 where data.mixup and data.cutmix are 0",
        )

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with one another."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True)
class DetectionData:
    """Images with boxes or masks, and how large the model sees them."""

    root: str
    """Folder of the data set: COCO, Pascal VOC, SBD, Cityscapes, YOLO or LabelMe."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split to validate on."""
    train_annotations: str | None = None
    """Annotation file to train on, below the root; null finds it by the split."""
    train_images: str | None = None
    """Folder of the training images, below the root; null finds it by the split."""
    val_annotations: str | None = None
    """Annotation file to validate on, below the root; null finds it by the split."""
    val_images: str | None = None
    """Folder of the validation images, below the root; null finds it by the split."""
    keep_empty: bool = False
    """Whether training images without objects are trained on; published runs leave them out."""
    short_side: int = 800
    """Largest short side, in pixels; images are resized to meet this or long_side."""
    long_side: int = 1333
    """Largest long side, in pixels."""
    train_short_sides: tuple[int, ...] | None = None
    """Short sides to draw from in training, in pixels; one that stands twice is drawn twice as
    often; null trains at short_side."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    crop_first: float = 0.0
    """Probability that in training a random part is cut out before resizing; 0.5 in 3x runs."""
    crop_first_short_sides: tuple[int, ...] = (400, 500, 600)
    """Short sides of the image to draw from when a part is cut out first, in pixels."""
    crop_first_sides: tuple[int, int] = (384, 600)
    """Smallest and largest height and width of the part that is cut out first, in pixels."""
    max_train_side: int | None = None
    """Larger training images are cut to this height and width after resizing; null cuts none."""
    scale_jitter: tuple[float, float] | None = None
    """Smallest and largest factor of large-scale jitter, as (0.1, 2.0); null turns it off."""
    jitter_side: int = 1024
    """Side of the square that large-scale jitter fits images into and cuts out, in pixels."""
    copy_paste: float = 0.0
    """Probability that objects of another image are pasted onto a training image; needs masks."""
    fast_train_resize: bool = False
    """Whether training resizes faster, by at most a level of 255 beside the published pixels."""
    batch_size: int = 2
    """Training images per device and step."""
    eval_batch_size: int = 1
    """Validation images per device and batch."""
    workers: int = 2
    """Processes per device that read images; 0 reads in the training process."""
    max_bad_files: int = 10
    """Files that cannot be decoded before the run stops, counted in each process by itself."""

    def __post_init__(self) -> None:
        require(bool(self.root), "data.root", self.root, "the folder of the data set")
        require_counts("data", 1, batch_size=self.batch_size, eval_batch_size=self.eval_batch_size)
        require_counts("data", 0, workers=self.workers, max_bad_files=self.max_bad_files)
        require_counts("data", 1, short_side=self.short_side)
        require(
            self.long_side >= self.short_side,
            "data.long_side",
            self.long_side,
            f"at least data.short_side = {self.short_side}",
        )
        require_fractions(
            "data", flip=self.flip, crop_first=self.crop_first, copy_paste=self.copy_paste
        )
        self._check_sides()
        self._check_jitter()
        for split in ("train", "val"):
            annotations = getattr(self, f"{split}_annotations")
            images = getattr(self, f"{split}_images")
            require(
                (annotations is None) == (images is None),
                f"data.{split}_annotations and data.{split}_images",
                (annotations, images),
                "given together, or both null",
            )
        for name, is_read, otherwise in (
            ("crop_first_short_sides", self.crop_first > 0, "data.crop_first is 0"),
            ("crop_first_sides", self.crop_first > 0, "data.crop_first is 0"),
            ("jitter_side", self.scale_jitter is not None, "data.scale_jitter is null"),
        ):
            require_default(self, f"data.{name}", is_read=is_read, otherwise=otherwise)

    def _check_sides(self) -> None:
        sides = self.train_short_sides
        require(
            sides is None or (len(sides) > 0 and min(sides) > 0),
            "data.train_short_sides",
            sides,
            "null or one or more sides above 0",
        )
        sides = self.crop_first_short_sides
        require(
            len(sides) > 0 and min(sides) > 0,
            "data.crop_first_short_sides",
            sides,
            "one or more sides above 0",
        )
        low, high = self.crop_first_sides
        require(
            0 < low <= high,
            "data.crop_first_sides",
            self.crop_first_sides,
            "two sides, 0 < low <= high",
        )
        require_counts("data", 1, max_train_side=self.max_train_side, jitter_side=self.jitter_side)

    def _check_jitter(self) -> None:
        if self.scale_jitter is None:
            return
        low, high = self.scale_jitter
        require(
            0 < low <= high,
            "data.scale_jitter",
            self.scale_jitter,
            "null or two factors, 0 < low <= high",
        )
        others = {
            "train_short_sides": self.train_short_sides,
            "crop_first": self.crop_first or None,
            "max_train_side": self.max_train_side,
        }
        for name, value in others.items():
            require(
                value is None,
                f"data.{name}",
                value,
                "left at its default where data.scale_jitter chooses the sizes",
            )


LabelLayout = Literal[
    "label_folder",
    "ade20k",
    "cityscapes",
    "pascal_context",
    "pascal_context_59",
    "voc_segmentation",
    "voc_segmentation_aug",
    "coco_stuff",
    "camvid",
]
"""How a data set with labels of pixels is laid out."""


@dataclass(frozen=True)
class SegmentationData:
    """Images with the class of every pixel, and how large the model sees them."""

    root: str
    """Folder of the data set, in any layout that `ziggurat data check` recognises."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split to validate on."""
    layout: LabelLayout | None = None
    """How the data are laid out, where a folder can be read in two ways; null recognises it."""
    short_side: int = 512
    """Largest short side, in pixels; images are resized to meet this or long_side."""
    long_side: int = 2048
    """Largest long side, in pixels."""
    divisor: int = 32
    """In evaluation height and width are resized a second time, up to multiples of this."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest factor of the size in training."""
    crop: tuple[int, int] = (512, 512)
    """Height and width of the part that is cut out in training, in pixels."""
    largest_share: float = 0.75
    """A crop is drawn again, up to ten times, if one class fills more of what is labelled."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    distort: bool = True
    """Whether brightness, contrast, saturation and hue are changed at random in training."""
    fast_train_resize: bool = False
    """Whether training resizes faster, by at most a level of 255 beside the published pixels."""
    batch_size: int = 4
    """Training images per device and step."""
    eval_batch_size: int = 1
    """Validation images per device and batch."""
    workers: int = 4
    """Processes per device that read images; 0 reads in the training process."""
    max_bad_files: int = 10
    """Files that cannot be decoded before the run stops, counted in each process by itself."""

    def __post_init__(self) -> None:
        require(bool(self.root), "data.root", self.root, "the folder of the data set")
        require_counts("data", 1, batch_size=self.batch_size, eval_batch_size=self.eval_batch_size)
        require_counts("data", 0, workers=self.workers, max_bad_files=self.max_bad_files)
        require_counts("data", 1, short_side=self.short_side, divisor=self.divisor)
        require(
            self.long_side >= self.short_side,
            "data.long_side",
            self.long_side,
            f"at least data.short_side = {self.short_side}",
        )
        low, high = self.scale
        require(0 < low <= high, "data.scale", self.scale, "two factors, 0 < low <= high")
        require(min(self.crop) >= 1, "data.crop", self.crop, "a height and a width of at least 1")
        require_fractions("data", largest_share=self.largest_share, flip=self.flip)
