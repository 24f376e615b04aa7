"""Images and label files that belong together, paired by their names."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ziggurat.data.decode import IMAGE_SUFFIXES
from ziggurat.data.findings import Finding
from ziggurat.data.label_rules import LabelRule


@dataclass(frozen=True)
class SplitFiles:
    """Files of a split; the image and the label file of one key belong together.

    Attributes:
        images: Image files.
        labels: Label files.
        rule: What the values of the label files mean.
        image_place: Folder of the images, relative to the root.
        label_place: Folder of the label files, likewise.
        faults: What is wrong with the names of the files.
    """

    images: dict[str, Path]
    labels: dict[str, Path]
    rule: LabelRule
    image_place: str
    label_place: str
    faults: tuple[Finding, ...] = ()


def common_folders(*parts: Path) -> tuple[str, ...]:
    """Name the folders below any of some folders, if all of these are there.

    Args:
        parts: Where to look.
    """
    if not all(part.is_dir() for part in parts):
        return ()
    names = {entry.name for part in parts for entry in part.iterdir() if entry.is_dir()}
    return tuple(sorted(names))


def same_names(
    root: Path, image_place: str, label_place: str, rule: LabelRule, ending: str = ""
) -> SplitFiles:
    """Pair the files of two folders by their names.

    Args:
        root: Folder of the data set.
        image_place: Folder of the images in it.
        label_place: Folder of the label files in it.
        rule: What their values mean.
        ending: What the names of label files have behind those of the images.
    """
    faults: list[Finding] = []
    images = by_stem(root, image_place, "", faults.append)
    labels = by_stem(root, label_place, ending, faults.append)
    return SplitFiles(images, labels, rule, image_place, label_place, tuple(faults))


def by_stem(
    root: Path, place: str, ending: str, report: Callable[[Finding], None]
) -> dict[str, Path]:
    """List image files by the name that pairs them; of two with one name the first.

    Args:
        root: Folder of the data set.
        place: Folder of the files in it; may be absent.
        ending: What their names have behind the name that pairs them.
        report: Is told of every further file of one name.
    """
    found: dict[str, Path] = {}
    folder = root / place
    # As texts: sorting a hundred thousand paths takes seconds.
    for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
        stem, suffix = os.path.splitext(name)
        if (
            suffix.lower() not in IMAGE_SUFFIXES
            or name.startswith(".")
            or not stem.endswith(ending)
        ):
            continue
        path = folder / name
        first = found.setdefault(stem.removesuffix(ending), path)
        if first is not path:
            reason = f"{first.name} has the same name but for its suffix; only one can be paired"
            report(Finding(f"{place}/{name}", reason))
    return found
