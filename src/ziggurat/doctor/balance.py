"""How often classes occur, which ones training never sees, and images without anything in them."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from ziggurat.data.class_masks import ClassMaskFolder
from ziggurat.data.coco import CocoDetection
from ziggurat.data.decode import ImageDecodeError
from ziggurat.data.findings import plural, some
from ziggurat.data.label_files import read_labels
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.labelled_images import LabelledImages
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.plain import Images
from ziggurat.doctor.subject import Subject
from ziggurat.ops.label_counts import count_labels
from ziggurat.types import UNLABELLED

CHECK = "class balance"
EMPTY = "empty images"
RARE, TIMES = 10, 100
"""A class is rare with fewer examples than this where another has so many times as many."""
MOST_EMPTY = 0.3
MOST_IGNORED = 0.95
"""Data sets of a few objects leave the rest of the image unlabelled."""
LEAST_READ = 20
"""Label files from which on a share says something."""


@dataclass
class _Counts:
    """What a split has.

    Attributes:
        per_class: Objects of each class, or images that show it.
        unit: What was counted.
        num_images: Images that were looked at.
        is_whole: Whether these are all.
        num_empty: Images without an object or a labelled pixel.
        ignored: Share of the pixels that nobody labelled.
        unreadable: Label files that cannot be read, and why.
    """

    per_class: Int64[np.ndarray, " K"]
    unit: str
    num_images: int
    is_whole: bool = True
    num_empty: int = 0
    ignored: float = 0.0
    unreadable: list[str] = field(default_factory=list)


def check_balance(subject: Subject, clock: Clock) -> list[Finding]:
    """Count what training and validation have of each class."""
    train = _count(subject.data.train, clock.part(0.7))
    val = _count(subject.data.val, clock)
    if not train.num_images:
        return _unreadable(train)
    return [
        *_unreadable(train),
        *_empty(train, subject.data.train),
        _classes(subject.data.classes, train, val),
    ]


def _classes(names: tuple[str, ...], train: _Counts, val: _Counts) -> Finding:
    counts = train.per_class
    if not train.is_whole and not counts.all():
        missing = [names[i] for i in np.flatnonzero(counts == 0)]
        return Finding(
            CHECK,
            "not run",
            f"the time was up after {plural(train.num_images, 'label file')}, in which "
            f"{some(missing)} did not occur",
            "give more --minutes",
        )
    unseen = [names[i] for i in np.flatnonzero((counts == 0) & (val.per_class > 0))]
    if unseen:
        return Finding(
            CHECK,
            "error",
            f"validation has {some(unseen)}, of which training has none in {train.num_images} "
            "images",
            "move images of these classes into the training split, or take the classes out",
        )
    absent = [names[i] for i in np.flatnonzero(counts == 0)]
    if absent:
        return Finding(
            CHECK,
            "warning",
            f"{plural(len(absent), 'class')} without a single example in {train.num_images} "
            f"images: {some(absent)}",
            "take them out of the list of classes, or add examples",
        )
    low, high = int(counts.argmin()), int(counts.argmax())
    evidence = (
        f"from {counts[low]} {train.unit} of {names[low]!r} to {counts[high]} of {names[high]!r}"
        if counts[low] < counts[high]
        else f"{counts[low]} {train.unit} of each class"
    )
    rare = [names[i] for i in np.flatnonzero(counts < RARE)]
    if rare and counts[high] >= TIMES * counts[low]:
        return Finding(
            CHECK,
            "warning",
            f"{evidence}; below {RARE}: {some(rare)}",
            "add examples of the rare classes, or leave these classes out",
        )
    return Finding(CHECK, "ok", evidence)


def _empty(counts: _Counts, images: Images) -> list[Finding]:
    if counts.ignored > MOST_IGNORED:
        is_all = counts.ignored >= 1
        return [
            Finding(
                "labelled pixels",
                "error" if is_all else "warning",
                f"nobody labelled {counts.ignored:.0%} of the pixels of {counts.num_images} images",
                "see which values stand for unlabelled: those that classes.json says, else 255",
            )
        ]
    if isinstance(images, LabelledImages):
        return []
    share = counts.num_empty / counts.num_images
    evidence = f"{counts.num_empty} of {counts.num_images} training images have nothing to learn"
    if share <= MOST_EMPTY:
        return [Finding(EMPTY, "ok", evidence)]
    left_out = " and are left out" if isinstance(images, CocoDetection) else ""
    return [
        Finding(
            EMPTY,
            "warning",
            evidence + left_out,
            "see whether their annotations are missing, or lie under other file names",
        )
    ]


def _unreadable(counts: _Counts) -> list[Finding]:
    if not counts.unreadable:
        return []
    num_files = counts.num_images + len(counts.unreadable)
    return [
        Finding(
            "label files",
            "error",
            f"{len(counts.unreadable)} of {num_files} cannot be read: {counts.unreadable[0]}",
            "correct the files, or the list of classes (`ziggurat data check DIR` names every one)",
        )
    ]


def _count(images: Images, clock: Clock) -> _Counts:
    if isinstance(images, LabelledImages):
        counts = np.bincount(images.storage.labels, minlength=len(images.classes))
        return _Counts(counts, "images", len(images))
    if isinstance(images, CocoDetection):
        file = images.file
        counts = np.bincount(file.labels, minlength=len(file.classes))
        num_empty = int((np.diff(file.offsets) == 0).sum())
        return _Counts(counts, "boxes", len(file.image_ids), num_empty=num_empty)
    return _count_pixels(images, clock)


def _count_pixels(images: LabelFolder | ClassMaskFolder, clock: Clock) -> _Counts:
    result = _Counts(np.zeros(len(images.classes), dtype=np.int64), "images", 0)
    labelled = shown = 0.0
    # In any order, so that those before the time is up stand for all.
    for index in np.random.default_rng(0).permutation(len(images)).tolist():
        if clock.left <= 0 and result.num_images >= LEAST_READ:
            result.is_whole = False
            break
        clock.require(f"{plural(result.num_images, 'label file')} read")
        try:
            present, share = _present(images, index)
        except ImageDecodeError as error:
            result.unreadable.append(f"{error.path}: {error.reason}")
            continue
        result.num_images += 1
        result.num_empty += not present.any()
        result.per_class += present
        labelled, shown = labelled + share, shown + 1
    result.ignored = 1 - labelled / shown if shown else 0.0
    return result


def _present(
    images: LabelFolder | ClassMaskFolder, index: int
) -> tuple[Int64[np.ndarray, " K"], float]:
    """Return which classes an image shows, and the share of its pixels that is labelled."""
    num_classes = len(images.classes)
    if isinstance(images, ClassMaskFolder):
        shown = [label for label in images.masks[index] if label != UNLABELLED]
        return np.isin(np.arange(num_classes), shown).astype(np.int64), 1.0
    labels = read_labels(images.pairs[index][1], images.rule)
    counts = count_labels(labels, num_classes)
    return (counts > 0).astype(np.int64), float(counts.sum() / labels.size)
