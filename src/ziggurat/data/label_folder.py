"""Semantic segmentation data: images and, beside them, PNGs whose values are classes.

Two layouts are read. ADE20K's: images/<split>/*.jpg and annotations/<split>/*.png, 0 where nobody
labelled and 1..K for the classes of objectInfo150.txt. And the plain one, with classes.json beside
the same two folders: values 0..K-1, and 255 where nobody labelled; label files of several channels
are read by the colours in classes.json.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ziggurat.data.decode import ImageDecodeError, decode_image, is_image_file
from ziggurat.data.items import Item, ItemKey, read_item
from ziggurat.errors import ZigguratError
from ziggurat.types import BadFile, ImageInfo, LabelMap, Sample

UNLABELLED = 255
CLASS_FILE = "classes.json"
ADE20K_FILE = "objectInfo150.txt"
SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "validation")}
"""A split may be called in the second way on disk."""

Labels = UInt8[np.ndarray, "H W"]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LabelRule:
    """What the values of label files mean.

    Attributes:
        classes: Name of each class.
        palette: Colour of each class, red, green and blue, or None where none is given.
        is_shifted: Whether 0 stands for unlabelled and class 0 for 1.
    """

    classes: tuple[str, ...]
    palette: tuple[Colour, ...] | None
    is_shifted: bool


class LabelFolder(Dataset[Item]):
    """Images with the class of every pixel.

    Args:
        root: Folder with images/ and annotations/.
        split: Name of the split: "train", "val" or any other.
        transform: Makes a normalised tensor and a label map of an image and its labels.
        train: Whether another image takes the place of one that cannot be decoded.
        seed: Seed of the random transforms.

    Raises:
        ZigguratError: If a folder is missing, or an image has no labels, or there are none at all.
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
        self.rule = read_rule(root)
        self.classes = self.rule.classes
        self.pairs = find_pairs(root, split)
        self.transform = transform
        self.train = train
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: ItemKey | int) -> Item:
        return read_item(self._load, len(self), key, seed=self.seed, replace_bad=self.train)

    def _load(self, index: int, skipped: tuple[BadFile, ...]) -> Sample:
        image_path, label_path = self.pairs[index]
        image = decode_image(image_path)
        size = (image.height, image.width)
        labels = read_labels(label_path, self.rule)
        if labels.shape != size:
            raise ImageDecodeError(
                str(label_path),
                f"it has {labels.shape[1]} x {labels.shape[0]} pixels, but the image "
                f"{image_path.name} has {size[1]} x {size[0]}",
            )
        tensor, target = self.transform(image, labels)
        return Sample(tensor, target, ImageInfo(index, str(image_path), size), skipped)


def read_rule(root: Path) -> LabelRule:
    """Read what the values of a folder's label files mean.

    Args:
        root: Folder of the data set.

    Raises:
        ZigguratError: If the folder says nothing about its classes, or something wrong.
    """
    if not root.is_dir():
        raise ZigguratError(
            f"data folder {root} does not exist; expected a folder with images/<split>/ and "
            f"annotations/<split>/"
        )
    if (root / CLASS_FILE).is_file():
        return _read_class_file(root / CLASS_FILE)
    if (root / ADE20K_FILE).is_file():
        return LabelRule(_read_ade20k_classes(root / ADE20K_FILE), None, is_shifted=True)
    raise ZigguratError(
        f"{root} says nothing about its classes: expected {CLASS_FILE} with "
        f'{{"classes": ["road", ...]}} for label values 0, 1, ..., or ADE20K\'s {ADE20K_FILE}'
    )


def _read_class_file(path: Path) -> LabelRule:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ZigguratError(f"class file {path} is no JSON that can be read: {error}") from error
    names = content.get("classes") if isinstance(content, dict) else None
    if (
        not isinstance(names, list)
        or not 1 <= len(names) <= UNLABELLED
        or not all(isinstance(name, str) and name for name in names)
        or len(set(names)) < len(names)
    ):
        raise ZigguratError(
            f"class file {path} must hold the list 'classes' of 1 to {UNLABELLED} different names"
        )
    palette = content.get("palette")
    if palette is not None and (
        not isinstance(palette, list)
        or len(palette) != len(names)
        or not all(_is_colour(colour) for colour in palette)
    ):
        raise ZigguratError(
            f"the palette of class file {path} must hold one colour [red, green, blue] of levels "
            f"0..255 for each of {len(names)} classes"
        )
    colours = None if palette is None else tuple((r, g, b) for r, g, b in palette)
    return LabelRule(tuple(names), colours, is_shifted=False)


def _is_colour(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(level) is int and 0 <= level <= 255 for level in value)
    )


def _read_ade20k_classes(path: Path) -> tuple[str, ...]:
    try:
        rows = path.read_text(encoding="utf-8").splitlines()[1:]
    except (OSError, UnicodeDecodeError) as error:
        raise ZigguratError(f"class list {path} cannot be read: {error}") from error
    names = [row.split("\t")[-1].split(",")[0].strip() for row in rows if row.strip()]
    if not names or len(names) > UNLABELLED - 1 or not all(names):
        raise ZigguratError(
            f"class list {path} must hold a header and one row a class, columns divided by tabs"
        )
    return tuple(names)


def find_pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    """Return image and label file of every image of a split, by name.

    Args:
        root: Folder of the data set.
        split: Name of the split.

    Raises:
        ZigguratError: If a folder is missing, or an image has no label file, or the reverse.
    """
    images = _files(_split_folder(root, "images", split))
    labels = _files(_split_folder(root, "annotations", split))
    missing = sorted(set(images) ^ set(labels))
    if missing:
        name = missing[0]
        lacking = "annotations" if name in images else "images"
        found = images.get(name) or labels[name]
        raise ZigguratError(
            f"{found} has no counterpart {root / lacking / split / name}.*; every image needs a "
            f"label file of its name ({len(missing)} such in all)"
        )
    return [(images[name], labels[name]) for name in sorted(images)]


def _split_folder(root: Path, part: str, split: str) -> Path:
    candidates = [root / part / name for name in SPLIT_NAMES.get(split, (split,))]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise ZigguratError(
        f"{root} has no {part} of split {split!r}: looked for "
        f"{' and '.join(str(folder) for folder in candidates)}"
    )


def _files(folder: Path) -> dict[str, Path]:
    found = {path.stem: path for path in sorted(folder.iterdir()) if is_image_file(path)}
    if not found:
        raise ZigguratError(f"{folder} has no image files")
    return found


def read_labels(path: Path, rule: LabelRule) -> Labels:
    """Read the class of every pixel; 255 where nobody labelled.

    Args:
        path: A PNG with one channel or a palette, whose values are labels, or with the colours of
            the rule.
        rule: What the values mean.

    Raises:
        ImageDecodeError: If the file cannot be decoded, or a value in it is no class.
    """
    decode_image(path)  # says in its own words why a file is no image
    with Image.open(path) as image:
        mode = image.mode
        values = np.array(image if mode not in ("RGBA", "CMYK") else image.convert("RGB"))
    if values.ndim == 3:
        return _by_colour(path, mode, values[..., :3], rule)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    table = np.arange(int(values.max()) + 1 if values.size else 1)
    counts = np.bincount(values.reshape(-1).astype(np.int64), minlength=len(table))
    labels = np.where(table == 0, UNLABELLED, table - 1) if rule.is_shifted else table
    if len(table) > UNLABELLED:
        labels[UNLABELLED] = UNLABELLED
    wrong = np.flatnonzero((counts > 0) & (labels >= len(rule.classes)) & (labels != UNLABELLED))
    if len(wrong):
        first = 1 if rule.is_shifted else 0
        raise ImageDecodeError(
            str(path),
            f"it has the label {wrong[0]} in {counts[wrong[0]]} pixels; expected "
            f"{first}..{len(rule.classes) - 1 + first}, or {'0 or ' if first else ''}255 where "
            "nobody labelled",
        )
    return labels.astype(np.uint8)[values]


def _by_colour(
    path: Path, mode: str, values: UInt8[np.ndarray, "H W 3"], rule: LabelRule
) -> Labels:
    if rule.palette is None:
        raise ImageDecodeError(
            str(path),
            f"it has the mode {mode}; expected one channel whose values are labels, or a 'palette' "
            f"in {CLASS_FILE} that gives a colour to each class",
        )
    code = (values.astype(np.int32) * (65536, 256, 1)).sum(axis=2)
    labels = np.full(code.shape, UNLABELLED, dtype=np.uint8)
    for label, (red, green, blue) in enumerate(rule.palette):
        labels[code == 65536 * red + 256 * green + blue] = label
    return labels
