"""Read the objects of Cityscapes.

    leftImg8bit/<split>/<city>/*_leftImg8bit.png
    gtFine/<split>/<city>/*_gtFine_instanceIds.png

A pixel of an object holds 1000 * class + number, any other the number of its class alone, 0..33.
Where that is one of the eight classes with objects, people or cars stand so close that nobody told
them apart: such a region is a crowd. Boxes are those of the masks. Caravans and trailers, the other
two classes with objects, are not evaluated and left out.

Pixels that the benchmark ignores (`IGNORED_IDS`) are kept beside each image, for its metric.

The numbers are those of cityscapesScripts 2.3, which wrote the published files; not tried on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from ziggurat.class_lists import class_list
from ziggurat.data.decode import ImageDecodeError, read_many
from ziggurat.data.foreign import ContentBuilder, Report
from ziggurat.data.label_files import read_numbers
from ziggurat.data.label_layouts import CITYSCAPES_IDS, CITYSCAPES_VALUES, in_folders
from ziggurat.data.object_maps import Region, find_regions
from ziggurat.types import ImageSize

_FIRST = 24
INSTANCE_IDS: dict[str, int] = {
    name: number
    for name, number in zip(class_list("cityscapes").classes, CITYSCAPES_IDS, strict=True)
    if number >= _FIRST
}
"""Number of each of the eight classes with objects."""
IGNORED_IDS = tuple(sorted(set(range(CITYSCAPES_VALUES)) - set(CITYSCAPES_IDS)))
"""Numbers of pixels that the benchmark ignores."""
_OBJECT = 1000
_NOTHING, _IGNORED, _UNKNOWN = 0, 1, 2
"""What a pixel of neither an object nor a crowd is; no class with objects has such a number."""
_ENDING = "_gtFine_instanceIds"


def is_cityscapes_instances(root: Path) -> bool:
    """Tell whether a folder has the objects of Cityscapes."""
    return bool(cityscapes_instance_splits(root))


def cityscapes_instance_splits(root: Path) -> tuple[str, ...]:
    """Name the splits with maps of objects.

    Args:
        root: Folder of the data set.
    """
    if not (root / "leftImg8bit").is_dir() or not (root / "gtFine").is_dir():
        return ()
    folders = (path for path in (root / "gtFine").iterdir() if path.is_dir())
    return tuple(sorted(path.name for path in folders if any(path.glob(f"*/*{_ENDING}.png"))))


def read_cityscapes_instances(
    root: Path, split: str, report: Report
) -> tuple[dict[str, object], Path]:
    """Lay a split out as a COCO file.

    Args:
        root: Folder of the data set.
        split: One of `cityscapes_instance_splits`.
        report: Is told of what cannot be taken over.

    Returns:
        The content of the COCO file, and the folder that its file names are relative to.
    """
    folder = root / "leftImg8bit" / split
    images = in_folders(folder, "_leftImg8bit")
    maps = in_folders(root / "gtFine" / split, _ENDING)
    for key in sorted(images.keys() ^ maps.keys()):
        alone = images.get(key) or maps[key]
        place = f"{'gtFine' if key in images else 'leftImg8bit'}/{split}"
        reason = f"it has no counterpart of its name in {place}; every image needs a map of objects"
        report(alone.relative_to(root).as_posix(), reason)
    builder = ContentBuilder(tuple(INSTANCE_IDS), report)
    name_of = {number: name for name, number in INSTANCE_IDS.items()}
    keys = sorted(images.keys() & maps.keys())
    for key, found in zip(keys, read_many(_read, [maps[key] for key in keys]), strict=True):
        source = maps[key].relative_to(root).as_posix()
        if isinstance(found, str):
            report(source, found)
            continue
        file_name = images[key].relative_to(folder).as_posix()
        image_id = builder.add_image(file_name, found.size, source, ignored=found.ignored)
        assert image_id is not None  # every key is of another file
        for number, region in found.regions.items():
            is_crowd = number < _OBJECT
            builder.add_object(
                image_id,
                name_of[number if is_crowd else number // _OBJECT],
                region.box,
                (source, f"value {number}"),
                region=region,
                is_crowd=is_crowd,
            )
    return builder.content(), folder


@dataclass(frozen=True)
class _Found:
    """What a map of objects says.

    Attributes:
        size: Its height and width.
        regions: Pixels of each object and of each crowd, by their number.
        ignored: Pixels that the benchmark ignores, or None where there are none.
    """

    size: ImageSize
    regions: Mapping[int, Region]
    ignored: Region | None


def _read(path: Path) -> _Found | str:
    """Read a map of objects, or say why it cannot be used."""
    try:
        numbers = read_numbers(path)
    except ImageDecodeError as error:
        return error.reason
    # One look-up and one pass, as a split has thousands of maps of two million pixels.
    roles = _ROLES[numbers]
    regions = find_regions(roles, without=(_NOTHING,))
    if _UNKNOWN in regions:
        return (
            f"it has the value {numbers[roles == _UNKNOWN].min()}; expected "
            f"0..{CITYSCAPES_VALUES - 1}, or 1000 * class + number where the class, "
            f"{_FIRST}..{CITYSCAPES_VALUES - 1}, has objects"
        )
    ignored = regions.pop(_IGNORED, None)
    return _Found((numbers.shape[0], numbers.shape[1]), regions, ignored)


def _roles() -> UInt16[np.ndarray, " 65536"]:
    """Say of each number of 16 bits whether it is an object or a crowd, and which, or what else."""
    table = np.full(1 << 16, _UNKNOWN, dtype=np.uint16)
    table[:CITYSCAPES_VALUES] = _NOTHING
    table[list(IGNORED_IDS)] = _IGNORED
    table[_FIRST * _OBJECT : CITYSCAPES_VALUES * _OBJECT] = _NOTHING
    for number in INSTANCE_IDS.values():
        objects = np.arange(number * _OBJECT, (number + 1) * _OBJECT)
        table[number], table[objects] = number, objects
    return table


_ROLES = _roles()
