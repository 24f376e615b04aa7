"""Check images with a mask for each class: pairs, sizes, values, and how many pixels are inside."""

from pathlib import Path

import numpy as np

from ziggurat.data.class_masks import (
    find_masks,
    mask_folder,
    mask_splits,
    read_mask,
    read_mask_rule,
)
from ziggurat.data.decode import ImageDecodeError
from ziggurat.data.findings import (
    TRAIN_SPLITS,
    DatasetCheck,
    Example,
    Finding,
    Progress,
    Severity,
    SplitCount,
    decode_sizes,
    evenly,
    in_order,
)
from ziggurat.data.label_rules import CLASS_FILE
from ziggurat.errors import ZigguratError
from ziggurat.types import UNLABELLED

_NUM_EXAMPLES = 12


def check_class_masks(root: Path, on_progress: Progress | None = None) -> DatasetCheck:
    """Look at every image and every mask of every split.

    Args:
        root: Folder of the data set.
        on_progress: Called as images are looked at.
    """
    try:
        classes = read_mask_rule(root).classes
    except ZigguratError as error:
        return DatasetCheck(root, "class_masks", (), (Finding(CLASS_FILE, str(error)),), ())
    counts: list[SplitCount] = []
    findings: list[Finding] = []
    examples: list[Example] = []
    for name in mask_splits(root):
        try:
            images, masks = find_masks(root, name, classes)
        except ZigguratError as error:
            findings.append(Finding(name, str(error)))
            continue
        count, found, shown = _check_split(root, name, classes, images, masks, on_progress)
        counts.append(count)
        findings += found
        examples += shown
    return DatasetCheck(root, "class_masks", tuple(counts), in_order(findings), tuple(examples))


def _check_split(
    root: Path,
    name: str,
    classes: tuple[str, ...],
    images: list[Path],
    masks: list[dict[int, Path]],
    on_progress: Progress | None,
) -> tuple[SplitCount, list[Finding], list[Example]]:
    findings: list[Finding] = []
    pixels, pictures = (np.zeros(len(classes), dtype=np.int64) for _ in range(2))
    good: list[int] = []
    for number, (image, size) in enumerate(
        zip(images, decode_sizes(images, on_progress), strict=True)
    ):
        before = len(findings)
        if isinstance(size, ImageDecodeError):
            findings.append(Finding(_short(root, image), size.reason))
            continue
        for label, path in masks[number].items():
            try:
                inside = int(read_mask(path, size).sum())
            except ImageDecodeError as error:
                findings.append(Finding(_short(root, path), error.reason))
                continue
            if label != UNLABELLED:
                pixels[label] += inside
                pictures[label] += inside > 0
        if len(findings) == before:
            good.append(number)
    for label in np.flatnonzero(pixels == 0).tolist():
        reason = f"class {classes[label]!r} is empty: no mask of this split has a pixel inside"
        severity: Severity = "fault" if name in TRAIN_SPLITS else "note"
        findings.append(Finding(_short(root, mask_folder(root, name)), reason, severity))
    count = SplitCount(
        name,
        len(images),
        "pixels",
        dict(zip(classes, pixels.tolist(), strict=True)),
        dict(zip(classes, pictures.tolist(), strict=True)),
    )
    chosen = [good[index] for index in evenly(len(good), _NUM_EXAMPLES)]
    examples = [
        Example(
            images[number],
            f"{name}: {images[number].name}",
            classes,
            masks={label: path for label, path in masks[number].items() if label != UNLABELLED},
        )
        for number in chosen
    ]
    return count, findings, examples


def _short(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
