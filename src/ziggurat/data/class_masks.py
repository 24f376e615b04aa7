"""Images with a mask for each class, where classes may overlap: a pixel can be road and wet.

    images/<split>/*                          the photos
    annotations/<split>/<class>/<name>.png    0 outside, 1 or 255 inside; no file: no such pixel;
                                              labels or masks instead of annotations is as good,
                                              and so is any kind of image but JPEG
    annotations/<split>/ignored/<name>.png    where nobody labelled, for all classes
    classes.json                              {"classes": [...]}, in order; else by the alphabet

or <split>/images/* and <split>/annotations/<class>/*, as label maps may lie, too.

The image pipelines move one label a pixel. Here that label is the number of the pixel's combination
of classes, of which an image has few, so that resizing, cropping and flipping are the same for both
kinds of data; afterwards every combination becomes its classes again.

Shapes: K classes, H x W pixels, n combinations.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from ziggurat.data.decode import ImageDecodeError, decode_image, has_images
from ziggurat.data.findings import Finding
from ziggurat.data.items import KeyedDataset
from ziggurat.data.label_files import Labels, read_labels, unequal_sizes
from ziggurat.data.label_layouts import own_places, own_splits
from ziggurat.data.label_pairs import by_stem
from ziggurat.data.label_rules import CLASS_FILE, LabelRule, counted_rule, read_rule
from ziggurat.data.segmentation_layouts import (
    SPLIT_NAMES,
    folders_of,
    no_split,
    require_one,
    segmentation_layout,
)
from ziggurat.data.tables import PathTable, Table
from ziggurat.errors import ZigguratError, check_known
from ziggurat.types import UNLABELLED, BadFile, ClassMasks, ImageInfo, ImageSize, LabelMap, Sample

IGNORED_FOLDER = "ignored"
_MASK = LabelRule(
    ("outside", "inside", "inside as 255"),
    ((0, 0, 0), (1, 1, 1), (255, 255, 255)),
    (0, 1, 255),
    ignored=frozenset(),
    ignored_colours=frozenset(),
)

Mask = Bool[np.ndarray, "H W"]


class MaskTable(Table[dict[int, Path]]):
    """Masks of images by class.

    Args:
        masks: File of each class that an image has.
    """

    def __init__(self, masks: Sequence[dict[int, Path]]) -> None:
        counts = np.array([len(files) for files in masks], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._labels = np.array([label for files in masks for label in files], dtype=np.uint8)
        self._files = PathTable(file for files in masks for file in files.values())

    def __len__(self) -> int:
        return len(self._starts) - 1

    def _entry(self, place: int) -> dict[int, Path]:
        start, stop = self._starts[place : place + 2].tolist()
        return dict(zip(self._labels[start:stop].tolist(), self._files[start:stop], strict=True))


class ClassMaskFolder(KeyedDataset):
    """Images with a mask for each class.

    Args:
        root: Folder of the data set.
        split: Name of the split: "train", "val" or any other.
        transform: Makes a normalised tensor and a label map of an image and its labels.
        train: Whether another image takes the place of one that cannot be decoded.
        seed: Seed of the random transforms.

    Attributes:
        images: File of each image.
        masks: File of each mask of each image by class; 255 is what is ignored.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        transform: Callable[[Image.Image, Labels], tuple[Tensor, LabelMap]],
        *,
        train: bool,
        seed: int = 0,
    ) -> None:
        self.rule = read_mask_rule(root)
        self.classes = self.rule.classes
        images, masks = find_masks(root, split, self.classes)
        self.images, self.masks = PathTable(images), MaskTable(masks)
        self.transform = transform
        self.train = train
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def _load(self, index: int, skipped: tuple[BadFile, ...]) -> Sample:
        path = self.images[index]
        image = decode_image(path)
        size = (image.height, image.width)
        masks = {label: read_mask(file, size) for label, file in self.masks[index].items()}
        ignored = masks.pop(UNLABELLED, None)
        labels, table = combine(masks, ignored, size, len(self.classes), path)
        tensor, moved = self.transform(image, labels)
        target = separate(moved, table)
        return Sample(tensor, target, ImageInfo(index, str(path), size), skipped)


def has_labels(masks: dict[int, Path]) -> bool:
    """Tell whether any pixel of an image counts; only what is ignored has to be read for that.

    A file that cannot be read is an `ImageDecodeError`.

    Args:
        masks: File of each class that an image has; 255 is what is ignored.
    """
    ignored = masks.get(UNLABELLED)
    return ignored is None or not read_labels(ignored, _MASK).all()


def is_class_masks(root: Path) -> bool:
    """Tell whether a folder has images and, for each class, a folder of masks.

    Args:
        root: Folder of the data set.
    """
    places = (own_places(root, split) for split in mask_splits(root))
    return any(
        has_images(root / images_at)
        and has_images(root / masks_at, "*/*")
        and not has_images(root / masks_at)
        for images_at, masks_at in places
    )


def find_class_masks(root: Path) -> Path | None:
    """Find the folder that has masks of classes: this one, or the only one directly below it.

    No such folder, or several data sets below it, is a `ZigguratError`.

    Args:
        root: Folder of a data set, or one with a single data set directly below it.

    Returns:
        The folder, or None where the data are no masks of classes.
    """
    here, *below = folders_of(root)
    if is_class_masks(here):
        return here
    if segmentation_layout(here) is not None:
        return None
    found = [path for path in below if is_class_masks(path)]
    if not found:
        return None
    require_one(root, [path for path in below if path in found or segmentation_layout(path)])
    return found[0]


def mask_splits(root: Path) -> tuple[str, ...]:
    """Name the splits that have both images and masks.

    Args:
        root: Folder of the data set.
    """
    return tuple(
        split
        for split in own_splits(root)
        if (root / own_places(root, split)[0]).is_dir() and mask_folder(root, split).is_dir()
    )


def mask_folder(root: Path, split: str) -> Path:
    """Return where a split's folders of masks are, or would be.

    Args:
        root: Folder of the data set.
        split: Name of the split.
    """
    return root / own_places(root, split)[1]


def read_mask_rule(root: Path) -> LabelRule:
    """Read names and colours of the classes: of classes.json, else names of all folders of masks.

    Args:
        root: Folder of the data set.

    Raises:
        ZigguratError: If there are none, or a folder's name is no class.
    """
    found = {
        folder.name
        for split in mask_splits(root)
        for folder in mask_folder(root, split).iterdir()
        if folder.is_dir() and folder.name != IGNORED_FOLDER
    }
    if (root / CLASS_FILE).is_file():
        rule = read_rule(root)
        for name in sorted(found):
            check_known(f"class of {root}", name, rule.classes)
        return rule
    if not 1 <= len(found) < UNLABELLED:
        raise ZigguratError(
            f"{root} has {len(found)} classes; expected 1 to {UNLABELLED - 1} folders "
            "annotations/<split>/<class>/ with masks"
        )
    return counted_rule(tuple(sorted(found)), None)


def find_masks(
    root: Path, split: str, classes: Sequence[str]
) -> tuple[list[Path], list[dict[int, Path]]]:
    """Find the images of a split, and the masks of each by class; 255 is what is ignored.

    Args:
        root: Folder of the data set.
        split: Name of the split.
        classes: Names of the classes.

    Raises:
        ZigguratError: If there is no such split, or no image, or a mask without an image, or two
            files of a folder have one name but for the suffix.
    """
    splits = mask_splits(root)
    names = [name for name in SPLIT_NAMES.get(split, (split,)) if name in splits]
    if not names:
        images_at, masks_at = own_places(root, split)
        where = f"put its images into {images_at} and its masks into {masks_at}/<class>"
        raise ZigguratError(no_split(f"{root} (masks of classes)", split, splits, where))
    faults: list[Finding] = []
    images_at, masks_at = own_places(root, names[0])
    images = by_stem(root, images_at, "", faults.append)
    if not images:
        raise ZigguratError(f"{root / images_at} has no image files")
    masks: dict[str, dict[int, Path]] = {stem: {} for stem in images}
    folders = {name: label for label, name in enumerate(classes)} | {IGNORED_FOLDER: UNLABELLED}
    for name, label in folders.items():
        for stem, path in by_stem(root, f"{masks_at}/{name}", "", faults.append).items():
            if stem not in masks:
                raise ZigguratError(
                    f"{path} has no image of its name in {root / images_at}; remove it or add the "
                    "image"
                )
            masks[stem][label] = path
    if faults:
        raise ZigguratError(f"{root / faults[0].file}: {faults[0].reason}")
    return list(images.values()), list(masks.values())


def read_mask(path: Path, size: ImageSize) -> Mask:
    """Read where a class is.

    Args:
        path: A file of one channel, or of grey colours: 0 outside, 1 or 255 inside.
        size: Height and width of its image.

    Raises:
        ImageDecodeError: If it has another size.
    """
    labels = read_labels(path, _MASK)
    if labels.shape != size:
        raise ImageDecodeError(str(path), unequal_sizes(labels.shape, size))
    return labels > 0


def combine(
    masks: dict[int, Mask], ignored: Mask | None, size: ImageSize, num_classes: int, path: Path
) -> tuple[Labels, Bool[np.ndarray, "K n"]]:
    """Number the combinations of classes that pixels have.

    Args:
        masks: Where each class is; a class that is nowhere may be left out.
        ignored: Where nobody labelled.
        size: Height and width.
        num_classes: Number of classes K.
        path: File of the image, for messages.

    Returns:
        The combination of each pixel, 255 where it is ignored; and the classes of each of 256
        combinations.

    Raises:
        ImageDecodeError: If there are more than 255 combinations.
    """
    labels = np.zeros(size, dtype=np.int64)
    sets: list[tuple[int, ...]] = [()]
    for label, mask in masks.items():
        labels = labels * 2 + mask
        present = np.flatnonzero(np.bincount(labels.ravel(), minlength=2 * len(sets)))
        number = np.zeros(2 * len(sets), dtype=np.int64)
        number[present] = np.arange(len(present))
        labels = number[labels]
        sets = [sets[old // 2] + ((label,) if old % 2 else ()) for old in present.tolist()]
        if len(sets) > UNLABELLED:
            raise ImageDecodeError(
                str(path), f"its classes overlap in more than {UNLABELLED} different ways"
            )
    table = np.zeros((num_classes, UNLABELLED + 1), dtype=bool)
    for place, members in enumerate(sets):
        table[list(members), place] = True
    combinations = labels.astype(np.uint8)
    if ignored is not None:
        combinations[ignored] = UNLABELLED
    return combinations, table


def separate(combinations: LabelMap, table: Bool[np.ndarray, "K n"]) -> ClassMasks:
    """Make a mask for each class again.

    Args:
        combinations: Combination of each pixel, 255 where it is ignored.
        table: Classes of each combination.
    """
    labels: UInt8[np.ndarray, "H W"] = combinations.labels.numpy()
    masks = torch.from_numpy(table[:, labels])
    return ClassMasks(masks, combinations.labels == UNLABELLED)
