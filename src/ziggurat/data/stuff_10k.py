"""Read COCO-Stuff 10k as it is downloaded, in version 1.1.

    images/<name>.jpg, annotations/<name>.mat, imageLists/train.txt, imageLists/test.txt

A MATLAB file holds S, the number of each pixel: 0 where nobody labelled, else 1 to 182, of which
171 are in use, since COCO never annotated eleven of its things. A published PNG file of COCO-Stuff
164k has the number less one, and 255 for unlabelled; so have those that are made here. Version 1.0
counted only the classes in use, from 2, with 1 for unlabelled; its `names` are 172.

Read by what the data set's authors wrote to get from version 1.0 to 1.1, and by MMSegmentation's
converter; not tried on published files.
"""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ziggurat.data.image_lists import read_list
from ziggurat.data.label_layouts import coco_stuff_rule
from ziggurat.data.matlab_files import ReadMatlab, matlab_reader
from ziggurat.data.photo_labels import DownloadedLabels, PhotoLabels
from ziggurat.errors import ZigguratError
from ziggurat.types import UNLABELLED

_SPLITS = {"train": "train2014", "test": "test2014"}
"""Split of each list."""
_NUM_NAMES_OF_1_0 = 172


def read_stuff_10k(root: Path) -> DownloadedLabels:
    """Read the lists; the labels are read one after the other by whoever needs them.

    Args:
        root: Folder of the data set.

    Raises:
        ZigguratError: If scipy is not installed, or the lists are not those of a data set.
    """
    read_file = matlab_reader(root)
    list_of: dict[str, Path] = {}
    photos = []
    for name_of_list, split in _SPLITS.items():
        path = root / "imageLists" / f"{name_of_list}.txt"
        names = read_list(path, root / "annotations", ".mat")
        if not names:
            raise ZigguratError(f"list of images {path} names no image")
        for name in names:
            if Path(name).name != name:
                raise ZigguratError(
                    f"list of images {path} has {name!r}; expected the name of a photo in images/, "
                    "without .jpg"
                )
            if name in list_of:
                raise ZigguratError(
                    f"list of images {path} names {name}, as {list_of[name].name} does already; an "
                    "image belongs to one split, and once"
                )
            list_of[name] = path
            photos.append(
                PhotoLabels(
                    split,
                    root / "images" / f"{name}.jpg",
                    f"images/{split}/{name}.jpg",
                    f"annotations/{split}/{name}.png",
                    f"annotations/{name}.mat",
                    partial(_read, read_file, root / "annotations" / f"{name}.mat"),
                )
            )
    return DownloadedLabels("coco_stuff", photos, lists={}, left_out={})


def _read(read_file: ReadMatlab, path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read the values of a published PNG file out of a MATLAB file.

    Raises:
        ZigguratError: If there is none, or it has not what it should.
    """
    if not path.is_file():
        raise ZigguratError(f"{path}: there is no such file, though a list names its image")
    try:
        content = read_file(path, variable_names=["S", "names"])
        numbers = content["S"]
    except Exception as error:  # a damaged file makes its reader raise nearly anything
        raise ZigguratError(
            f"{path}: it cannot be read ({type(error).__name__}: {error}); expected a MATLAB file "
            "with S, the number of each pixel"
        ) from error
    if "names" in content and content["names"].size == _NUM_NAMES_OF_1_0:
        raise ZigguratError(
            f"{path}: it is of version 1.0 of COCO-Stuff, whose numbers are others; download "
            "version 1.1 (cocostuff-10k-v1.1.zip)"
        )
    if numbers.ndim != 2 or numbers.dtype.kind not in "uif":
        raise ZigguratError(
            f"{path}: its S has {numbers.ndim} dimensions of type {numbers.dtype}; expected a "
            "number for each pixel"
        )
    rule = coco_stuff_rule()
    known = {0, *(value + 1 for value in rule.values)}
    unknown = [number for number in np.unique(numbers).tolist() if number not in known]
    if unknown:
        raise ZigguratError(
            f"{path}: its S has the number {unknown[0]:g} in {np.sum(numbers == unknown[0])} "
            f"pixels; expected 0 where nobody labelled, or a class: {len(rule.values)} of "
            f"1..{max(known)}"
        )
    return np.where(numbers == 0, UNLABELLED, numbers - 1).astype(np.uint8)
