"""What a check of a data set says: counts, findings, and examples worth looking at."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from ziggurat.data.decode import ImageDecodeError, decode_image, read_many
from ziggurat.data.label_rules import LabelRule
from ziggurat.data.segments import Segment
from ziggurat.keypoints import Skeleton
from ziggurat.types import ImageSize

Layout = Literal[
    "image_folder",
    "image_list",
    "image_lmdb",
    "image_shards",
    "coco",
    "voc",
    "yolo",
    "labelme",
    "voc_instances",
    "sbd",
    "cityscapes_instances",
    "label_folder",
    "ade20k",
    "cityscapes",
    "pascal_context",
    "pascal_context_59",
    "voc_segmentation",
    "voc_segmentation_aug",
    "coco_stuff",
    "camvid",
    "class_masks",
]
Severity = Literal["fault", "note"]

SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
"""Names that tell a split."""

TRAIN_SPLITS = frozenset({"train", "training", "train2017"})
"""Splits that are trained on: there, a class without a single example is a fault."""

Progress = Callable[[int], None]
"""Called with the number of files looked at since the last call."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        file: File or folder, relative to the data set's root.
        reason: What is the matter with it.
        severity: A fault breaks training or spoils a metric; a note does not.
    """

    file: str
    reason: str
    severity: Severity = "fault"


@dataclass(frozen=True)
class SplitCount:
    """What a split holds.

    Attributes:
        name: Its name on disk.
        num_images: Images in it, faulty ones included.
        unit: What is counted for each class.
        per_class: Count of each class, in the order of the labels.
        images_per_class: Images that have the class, where pixels are counted.
    """

    name: str
    num_images: int
    unit: Literal["images", "objects", "pixels"]
    per_class: dict[str, int]
    images_per_class: dict[str, int] | None = None


@dataclass(frozen=True)
class Example:
    """An image without fault and where its annotations are, to be drawn.

    Attributes:
        image: The image file, or its bytes where it is packed.
        caption: What to write below it.
        classes: Name of each label.
        objects: Objects in it, for detection.
        label_map: File of the label of each pixel, for segmentation.
        rule: What the values in that file mean.
        masks: File of the mask of each class, where classes may overlap.
        skeleton: What the keypoints of the objects are, where they have some.
    """

    image: Path | bytes
    caption: str
    classes: tuple[str, ...]
    objects: "tuple[ExampleObject, ...] | None" = None
    label_map: Path | None = None
    rule: LabelRule | None = None
    masks: dict[int, Path] | None = None
    skeleton: Skeleton | None = None


@dataclass(frozen=True)
class ExampleObject:
    """An annotated object.

    Attributes:
        label: Class, an index into the example's classes.
        box: x, y, width, height in pixels.
        segment: Its mask; without parts where there is none.
        points: x, y in COCO's pixels and visibility of its keypoints; None where there are none.
    """

    label: int
    box: tuple[float, float, float, float]
    segment: Segment
    points: Float[np.ndarray, "P 3"] | None = None


@dataclass(frozen=True)
class DatasetCheck:
    """All that a check found out.

    Attributes:
        root: Folder of the data set.
        layout: How it is laid out.
        splits: What each split holds.
        findings: Faults and notes, faults first.
        examples: Some images of each split.
    """

    root: Path
    layout: Layout
    splits: tuple[SplitCount, ...]
    findings: tuple[Finding, ...]
    examples: tuple[Example, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are faults."""
        return tuple(finding for finding in self.findings if finding.severity == "fault")


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Put faults before notes, otherwise in the order found."""
    return tuple(sorted(findings, key=lambda finding: finding.severity != "fault"))


def decode_sizes(
    paths: Sequence[Path], on_progress: Progress | None
) -> list[ImageSize | ImageDecodeError]:
    """Decode every image whole, several at a time: its height and width, or what is wrong."""
    return read_many(_decode_size, paths, on_progress)


def _decode_size(path: Path) -> ImageSize | ImageDecodeError:
    try:
        image = decode_image(path)
    except ImageDecodeError as error:
        return error
    return image.height, image.width


def evenly(count: int, wanted: int) -> list[int]:
    """Choose up to `wanted` indices below `count`, spread over all of them."""
    wanted = min(count, wanted)
    return [index * count // wanted for index in range(wanted)]


def some(names: Sequence[str], shown: int = 3) -> str:
    """List the first few names."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def plural(count: int, noun: str) -> str:
    """Write "1 image", "2 images", "2 boxes", "2 classes"."""
    ending = "es" if noun.endswith(("s", "x")) else "s"
    return f"{count} {noun}{'' if count == 1 else ending}"
