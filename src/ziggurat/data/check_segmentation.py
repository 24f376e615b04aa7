"""Check images with label maps: pairs, sizes, values, and how many pixels each class has."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ziggurat.data.decode import ImageDecodeError, read_many
from ziggurat.data.findings import (
    TRAIN_SPLITS,
    DatasetCheck,
    Example,
    Finding,
    Layout,
    Progress,
    Severity,
    SplitCount,
    decode_sizes,
    evenly,
    in_order,
    plural,
    some,
)
from ziggurat.data.label_files import label_mode, read_labels, unequal_sizes
from ziggurat.data.label_layouts import ADE20K_FILE, side_by_side
from ziggurat.data.label_pairs import SplitFiles
from ziggurat.data.label_rules import CLASS_FILE, LabelRule, counted_rule
from ziggurat.data.segmentation_layouts import SEGMENTATION
from ziggurat.errors import ZigguratError
from ziggurat.ops.label_counts import count_labels
from ziggurat.types import UNLABELLED, ImageSize

_NUM_EXAMPLES = 12
OWN: tuple[Layout, ...] = ("ade20k", "label_folder")
"""Layouts in which a file of the data set lists the classes."""


@dataclass(frozen=True)
class _Look:
    """What a label file shows.

    Attributes:
        size: Its height and width, or why it cannot be used.
        pixels: Pixels of each class.
        is_deep: Whether it has more than 8 bits a pixel.
    """

    size: ImageSize | ImageDecodeError
    pixels: Int64[np.ndarray, " K"]
    is_deep: bool = False


class _SplitCheck:
    """Looks at the files of one split.

    Args:
        root: Folder of the data set.
        name: Name of the split on disk.
        files: Its files.
        is_named: Whether the classes have names; else a class that does not occur is none.
        is_own: Whether the data set itself lists its classes; a part of a published data set
            need not have all of them.
    """

    def __init__(
        self, root: Path, name: str, files: SplitFiles, *, is_named: bool, is_own: bool
    ) -> None:
        self.root = root
        self.name = name
        self.files = files
        self.is_named = is_named
        self.is_own = is_own
        self.findings = list(files.faults)
        self.good: list[str] = []
        count = len(files.rule.classes)
        self.pixels = np.zeros(count, dtype=np.int64)
        self.images = np.zeros(count, dtype=np.int64)
        self.unlabelled = 0
        self.deep: list[str] = []

    def run(self, on_progress: Progress | None) -> None:
        """Look at every image and every label file.

        Args:
            on_progress: Called as files are looked at.
        """
        files = self.files
        self._pair()
        stems = sorted(files.images)
        absent = {fault.file for fault in files.faults}
        stems = [stem for stem in stems if self._short(files.images[stem]) not in absent]
        sizes = decode_sizes([files.images[stem] for stem in stems], on_progress)
        size_of = dict(zip(stems, sizes, strict=True))
        for stem, size in size_of.items():
            if isinstance(size, ImageDecodeError):
                self._add(files.images[stem], size.reason)
        stems = sorted(files.labels)
        look_at = partial(_look_at, rule=files.rule)
        looks = read_many(look_at, [files.labels[stem] for stem in stems], on_progress)
        for stem, look in zip(stems, looks, strict=True):
            self._compare(stem, look, size_of.get(stem))
        self._sum_up()

    def count(self) -> SplitCount:
        """Return the pixels and the images of each class."""
        names = self.files.rule.classes
        shown = [label for label in range(len(names)) if self.is_named or self.pixels[label]]
        return SplitCount(
            self.name,
            len(self.files.images),
            "pixels",
            {names[label]: int(self.pixels[label]) for label in shown},
            {names[label]: int(self.images[label]) for label in shown},
        )

    def examples(self) -> list[Example]:
        """Choose some images without fault."""
        found = []
        for index in evenly(len(self.good), _NUM_EXAMPLES):
            image = self.files.images[self.good[index]]
            label_map = self.files.labels[self.good[index]]
            rule = self.files.rule
            caption = f"{self.name}: {image.name}"
            found.append(Example(image, caption, rule.classes, label_map=label_map, rule=rule))
        return found

    def _pair(self) -> None:
        images, labels = self.files.images, self.files.labels
        if not images and not labels:
            self.findings.append(Finding(self.files.image_place, "no images in it"))
        elif not labels:
            reason = f"no label files for {plural(len(images), 'image')}: nothing can be measured"
            self.findings.append(Finding(self.files.label_place, reason, self._severity()))
        else:
            for stem in sorted(images.keys() - labels.keys()):
                reason = f"it has no label file of its name in {self.files.label_place}"
                self._add(images[stem], reason)
        for stem in sorted(labels.keys() - images.keys()):
            self._add(labels[stem], f"it has no image of its name in {self.files.image_place}")

    def _compare(self, stem: str, look: _Look, size: ImageSize | ImageDecodeError | None) -> None:
        """Note what a label file shows, beside the size of its image."""
        path = self.files.labels[stem]
        if isinstance(look.size, ImageDecodeError):
            self._add(path, look.size.reason)
            return
        self.pixels += look.pixels
        self.images += look.pixels > 0
        num_labelled = int(look.pixels.sum())
        self.unlabelled += look.size[0] * look.size[1] - num_labelled
        if look.is_deep:
            self.deep.append(path.name)
        if not num_labelled:
            reason = "image without annotations: every pixel is unlabelled"
            self.findings.append(Finding(self._short(path), reason, "note"))
        if isinstance(size, tuple) and size != look.size:
            self._add(path, unequal_sizes(look.size, size))
        elif isinstance(size, tuple):
            self.good.append(stem)

    def _sum_up(self) -> None:
        """Find classes that never occur, and what looks like a misunderstanding."""
        rule = self.files.rule
        names = rule.classes
        if self.deep:
            reason = (
                f"{plural(len(self.deep), 'label file')} of 16 bits a pixel ({some(self.deep)}): "
                f"read as they are{', 8 bits would do' if max(rule.values) < 256 else ''}"
            )
            self.findings.append(Finding(self.files.label_place, reason, "note"))
        if not self.files.labels:
            return
        present = np.flatnonzero(self.pixels)
        if self.is_named and len(present) == 1 and self.unlabelled and UNLABELLED in rule.ignored:
            reason = (
                f"only {names[present[0]]!r} occurs beside unlabelled pixels; if 255 is a class, "
                f"give every class its value with 'values' in {CLASS_FILE}"
            )
            self.findings.append(Finding(self.files.label_place, reason, "note"))
        empty = [name for name, count in zip(names, self.pixels, strict=True) if not count]
        if not empty or not self.is_named:
            return
        if self.is_own and self._severity() == "fault":
            for name in empty:
                reason = f"class {name!r} is empty: no pixel of this split has its label"
                self.findings.append(Finding(self.files.label_place, reason))
        else:
            reason = f"{plural(len(empty), 'class')} without a pixel: {some(empty)}"
            self.findings.append(Finding(self.files.label_place, reason, "note"))

    def _severity(self) -> Severity:
        return "fault" if self.name in TRAIN_SPLITS else "note"

    def _short(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _add(self, path: Path, reason: str) -> None:
        self.findings.append(Finding(self._short(path), reason))


def check_segmentation(
    root: Path, layout: Layout, on_progress: Progress | None = None
) -> DatasetCheck:
    """Look at every image and every label file of every split.

    Args:
        root: Folder of the data set.
        layout: A key of `SEGMENTATION`.
        on_progress: Called as files are looked at.
    """
    findings: list[Finding] = []
    counts: list[SplitCount] = []
    examples: list[Example] = []
    for name in SEGMENTATION[layout].splits(root):
        is_named = True
        try:
            files = SEGMENTATION[layout].files(root, name)
        except ZigguratError as error:  # of the list of classes, or of a list of images
            faulty = Finding(ADE20K_FILE if layout == "ade20k" else CLASS_FILE, str(error))
            if layout not in OWN:
                findings.append(Finding(name, str(error)))
                continue
            findings += [] if faulty in findings else [faulty]
            files, is_named = side_by_side(root, name, _unnamed_rule()), False
        check = _SplitCheck(root, name, files, is_named=is_named, is_own=layout in OWN)
        check.run(on_progress)
        counts.append(check.count())
        examples += check.examples()
        findings += check.findings
    return DatasetCheck(root, layout, tuple(counts), in_order(findings), tuple(examples))


def _unnamed_rule() -> LabelRule:
    """Take every value for a class, so that a check can at least count them."""
    return counted_rule(tuple(f"label {value}" for value in range(UNLABELLED)), None)


def _look_at(path: Path, *, rule: LabelRule) -> _Look:
    count = len(rule.classes)
    try:
        labels = read_labels(path, rule)
        is_deep = label_mode(path).startswith("I")
    except ImageDecodeError as error:
        return _Look(error, np.zeros(count, dtype=np.int64))
    return _Look((labels.shape[0], labels.shape[1]), count_labels(labels, count), is_deep)
