"""Check a data set in ADE20K's layout: a label PNG for each image, 0 = other, 1..K = classes."""

from pathlib import Path

import numpy as np
from PIL import Image

from ziggurat.data.decode import ImageDecodeError, decode_image, is_image_file
from ziggurat.data.findings import (
    TRAIN_SPLITS,
    DatasetCheck,
    Example,
    Finding,
    Progress,
    SplitCount,
    decode_sizes,
    evenly,
    in_order,
    plural,
    some,
)
from ziggurat.types import ImageSize

CLASS_LIST = "objectInfo150.txt"
"""ADE20K's table of classes; the number in its name stands whatever the number of classes."""

_DEFAULT_CLASSES = 150
_UNLABELLED = 255
_NUM_EXAMPLES = 12


def is_ade20k(root: Path) -> bool:
    """Tell whether a folder has images and label PNGs side by side."""
    splits = _splits(root)
    return any(next((root / "annotations" / split).glob("*.png"), None) for split in splits) or (
        bool(splits) and (root / CLASS_LIST).is_file()
    )


def _splits(root: Path) -> list[str]:
    names: set[str] = set()
    for part in ("images", "annotations"):
        if not (root / part).is_dir():
            return []
        names |= {entry.name for entry in (root / part).iterdir() if entry.is_dir()}
    return sorted(names)


def check_ade20k(root: Path, on_progress: Progress | None = None) -> DatasetCheck:
    """Look at every image and every label of every split."""
    names, findings = _read_classes(root)
    is_named = not findings
    counts: list[SplitCount] = []
    examples: list[Example] = []
    for split in _splits(root):
        images, doubled_images = _by_stem(root, "images", split)
        labels, doubled_labels = _by_stem(root, "annotations", split)
        findings += doubled_images + doubled_labels
        findings += _unpaired(root, split, images, labels)
        good: list[tuple[Path, Path]] = []
        pictures = np.zeros(256, dtype=np.int64)
        stems = sorted(images)
        sizes = decode_sizes([images[stem] for stem in stems], on_progress)
        for stem, size in zip(stems, sizes, strict=True):
            if isinstance(size, ImageDecodeError):
                findings.append(Finding(_name(root, images[stem]), size.reason))
            if stem not in labels:
                continue
            present, faults = _check_label(root, labels[stem], size, len(names))
            findings += faults
            pictures[present] += 1
            if not faults and not isinstance(size, ImageDecodeError):
                good.append((images[stem], labels[stem]))
        per_class = {
            name: int(pictures[index + 1])
            for index, name in enumerate(names)
            if is_named or pictures[index + 1]
        }
        if images or labels:
            findings += _empty_classes(split, per_class)
        counts.append(SplitCount(split, len(images), "images", per_class))
        for index in evenly(len(good), _NUM_EXAMPLES):
            image, label = good[index]
            caption = f"{split}: {image.name}"
            examples.append(Example(image, caption, names, label_map=label))
    return DatasetCheck(root, "ade20k", tuple(counts), in_order(findings), tuple(examples))


def read_label_map(path: Path) -> np.ndarray:
    """Read the label of each pixel.

    Raises:
        ImageDecodeError: If the file cannot be decoded or has more than one channel.
    """
    # decode_image says in its own words why a file is no image; then the values are read as they
    # are, for a conversion to RGB would lose them.
    decode_image(path)
    with Image.open(path) as image:
        if len(image.getbands()) != 1:
            reason = f"it has the mode {image.mode}; expected one channel whose values are labels"
            raise ImageDecodeError(str(path), reason)
        return np.array(image).astype(np.int64)


def _read_classes(root: Path) -> tuple[tuple[str, ...], list[Finding]]:
    """Read the class list; without a good one the labels go up to 150, named by their number."""
    unnamed = tuple(f"label {index + 1}" for index in range(_DEFAULT_CLASSES))
    path = root / CLASS_LIST
    if not path.is_file():
        reason = f"no class list; labels up to {_DEFAULT_CLASSES} are taken for good"
        return unnamed, [Finding(CLASS_LIST, reason, "note")]
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    except (OSError, UnicodeDecodeError) as error:
        return unnamed, [Finding(CLASS_LIST, f"cannot be read: {error}")]
    rows = [row for row in rows if any(row)]
    numbers = [row[0].strip() for row in rows]  # the official file has stray blanks
    if not rows or numbers != [str(index + 1) for index in range(len(rows))] or len(rows) > 254:
        reason = "expected a header, then rows numbered 1, 2, 3, ... with tabs between the columns"
        return unnamed, [Finding(CLASS_LIST, reason)]
    return tuple(row[-1].split(",")[0].strip() for row in rows), []


def _by_stem(root: Path, part: str, split: str) -> tuple[dict[str, Path], list[Finding]]:
    """List files by the name that pairs images and labels; of two with one name the first."""
    folder = root / part / split
    found: dict[str, Path] = {}
    doubled: list[Finding] = []
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in files:
        if not is_image_file(path):
            continue
        first = found.setdefault(path.stem, path)
        if first != path:
            reason = f"{first.name} has the same name but for its suffix; only one can be paired"
            doubled.append(Finding(_name(root, path), reason))
    return found, doubled


def _unpaired(
    root: Path, split: str, images: dict[str, Path], labels: dict[str, Path]
) -> list[Finding]:
    found = []
    for stem in sorted(set(images) - set(labels)):
        reason = f"label file annotations/{split}/{stem}.png is missing"
        found.append(Finding(_name(root, images[stem]), reason))
    for stem in sorted(set(labels) - set(images)):
        reason = f"image file images/{split}/{stem}.jpg is missing"
        found.append(Finding(_name(root, labels[stem]), reason))
    if not images and not labels:
        found.append(Finding(f"images/{split}", "no images in it"))
    return found


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _check_label(
    root: Path, path: Path, size: ImageSize | ImageDecodeError, num_classes: int
) -> tuple[np.ndarray, list[Finding]]:
    """Check one label file; returns the labels in it that are classes."""
    name = _name(root, path)
    none = np.zeros(0, dtype=np.int64)
    try:
        labels = read_label_map(path)
    except ImageDecodeError as error:
        return none, [Finding(name, error.reason)]
    found = []
    if not isinstance(size, ImageDecodeError) and labels.shape != size:
        found.append(
            Finding(
                name,
                f"its size {labels.shape[0]} x {labels.shape[1]} (height x width) differs from "
                f"{size[0]} x {size[1]} of the image",
            )
        )
    values, pixels = np.unique(labels, return_counts=True)
    is_outside = ((values > num_classes) & (values != _UNLABELLED)) | (values < 0)
    if is_outside.any():
        listed = some([str(value) for value in values[is_outside]], 5)
        found.append(
            Finding(
                name,
                f"label out of range 0..{num_classes}: {listed} "
                f"in {plural(int(pixels[is_outside].sum()), 'pixel')}",
            )
        )
    is_class = (values > 0) & (values <= num_classes)
    if not is_class.any() and not found:
        found.append(Finding(name, "image without annotations: every pixel is 0 or 255", "note"))
    return values[is_class], found


def _empty_classes(split: str, per_class: dict[str, int]) -> list[Finding]:
    empty = [name for name, count in per_class.items() if count == 0]
    if not empty:
        return []
    if split in TRAIN_SPLITS:
        reason = "class {!r} is empty: no pixel of this split has its label"
        return [Finding(f"annotations/{split}", reason.format(name)) for name in empty]
    reason = f"{plural(len(empty), 'class')} without a pixel: {some(empty)}"
    return [Finding(f"annotations/{split}", reason, "note")]
