"""Write published label maps that are downloaded in another form in the layout that is trained on.

    COCO-Stuff 10k   images/{train,test}2014/*.jpg, annotations/{train,test}2014/*.png
    Pascal Context   JPEGImages/*.jpg, SegmentationClassContext/*.png,
                     ImageSets/SegmentationContext/{train,val}.txt

See `stuff_10k` and `context_file` for what they are made of.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from PIL import Image

from ziggurat.data.check import find_datasets
from ziggurat.data.context_file import read_context
from ziggurat.data.decode import read_many
from ziggurat.data.detection_layouts import FOREIGN
from ziggurat.data.downloaded_labels import (
    CONTEXT_FILE,
    STUFF_10K_FILES,
    context_splits_to_make,
    stuff_10k_splits,
)
from ziggurat.data.findings import Layout
from ziggurat.data.foreign import header_size
from ziggurat.data.label_files import unequal_sizes
from ziggurat.data.output_folder import whole_folder
from ziggurat.data.photo_labels import DownloadedLabels, PhotoLabels
from ziggurat.data.segmentation_layouts import SEGMENTATION, folders_of
from ziggurat.data.stuff_10k import read_stuff_10k
from ziggurat.errors import ZigguratError

ConvertFormat = Literal["coco", "labels"]
"""What a data set is converted to: `convert_to_coco`, or `convert_labels`."""

_Reader = Callable[[Path], DownloadedLabels]
_READERS: tuple[tuple[Callable[[Path], tuple[str, ...]], _Reader], ...] = (
    (stuff_10k_splits, read_stuff_10k),
    (context_splits_to_make, read_context),
)
"""What tells that a folder has a data set as downloaded, and what reads it."""


@dataclass(frozen=True)
class ConvertedLabels:
    """What became of a data set.

    Attributes:
        layout: Its layout now.
        num_images: Images of each split.
        left_out: What has no labels, and how often.
    """

    layout: Layout
    num_images: Mapping[str, int]
    left_out: Mapping[str, int]


def natural_format(root: Path) -> ConvertFormat:
    """Say what a data set is converted to unless somebody asks for something else.

    COCO, where it has boxes or masks of objects, or nothing else that can be converted.

    Args:
        root: Folder of the data set.
    """
    layouts = {layout for _, layout in find_datasets(root)}
    if layouts & FOREIGN.keys() or not layouts & SEGMENTATION.keys():
        return "coco"
    return "labels" if _find(root) else "coco"


def convert_labels(
    root: Path, output: Path, *, on_progress: Callable[[int, int], None] | None = None
) -> ConvertedLabels:
    """Copy the photos and write a PNG file for each, all or nothing.

    Args:
        root: Folder of the data set as downloaded, or one with a single one directly below it.
        output: Folder to write to, without anything in it.
        on_progress: Called with the number of images written and the number of all.

    Raises:
        ZigguratError: If there is no such data set, it cannot be read, or the output not be
            written.
    """
    found = _find(root)
    if len(found) != 1:
        names = ", ".join(path.name for path, _ in found)
        raise ZigguratError(
            f"{root} holds {len(found)} data sets ({names}); convert one of them"
            if found
            else f"{root} has no labels to convert; expected COCO-Stuff 10k as downloaded "
            f"({STUFF_10K_FILES}) or Pascal Context ({CONTEXT_FILE} beside JPEGImages of Pascal "
            "VOC 2010), in it or in a folder directly below it"
        )
    path, read = found[0]
    with whole_folder(root, output) as unfinished:
        download = read(path)
        _write(unfinished, path, download, on_progress)
    num_images = Counter(photo.split for photo in download.photos)
    return ConvertedLabels(download.layout, num_images, download.left_out)


def _find(root: Path) -> list[tuple[Path, _Reader]]:
    """Find the data sets as downloaded in a folder, or else in those directly below it."""
    found = [
        (path, read) for path in folders_of(root) for is_here, read in _READERS if is_here(path)
    ]
    here = [one for one in found if one[0] == root]
    return here if here else found


def _write(
    output: Path,
    root: Path,
    download: DownloadedLabels,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Write the new data set.

    Raises:
        ZigguratError: If a photo is missing, or does not fit its labels.
    """
    for photo in download.photos:
        if not photo.photo.is_file():
            raise ZigguratError(f"{root / photo.source}: its photo {photo.photo} does not exist")
    files = [place for one in download.photos for place in (one.photo_place, one.label_place)]
    for folder in {(output / place).parent for place in (*files, *download.lists)}:
        folder.mkdir(parents=True, exist_ok=True)
    num_done = 0

    def count(num_more: int) -> None:
        nonlocal num_done
        num_done += num_more
        if on_progress is not None:
            on_progress(num_done, len(download.photos))

    read_many(partial(_write_one, output, root), download.photos, count)
    for place, text in download.lists.items():
        (output / place).write_text(text, encoding="utf-8")


def _write_one(output: Path, root: Path, photo: PhotoLabels) -> None:
    labels = photo.read()
    size = header_size(photo.photo)
    if size is None:
        raise ZigguratError(f"{photo.photo} is no image whose size can be read")
    if labels.shape != size:
        reason = unequal_sizes(labels.shape, size)
        raise ZigguratError(f"{root / photo.source}: {reason} {photo.photo.name}")
    Image.fromarray(labels).save(output / photo.label_place)
    shutil.copyfile(photo.photo, output / photo.photo_place)
