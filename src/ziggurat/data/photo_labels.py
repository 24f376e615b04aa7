"""What the readers of label maps as downloaded hand over: photos, and how to get their labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ziggurat.data.findings import Layout


@dataclass(frozen=True)
class PhotoLabels:
    """A photo, and the label file that is made for it.

    Attributes:
        split: Its split in the new data set.
        photo: The file.
        photo_place: Where its copy belongs, relative to the new data set.
        label_place: Where the label file belongs.
        source: File, and entry, that has the labels, for messages.
        read: Reads the value of each pixel of the label file.
    """

    split: str
    photo: Path
    photo_place: str
    label_place: str
    source: str
    read: Callable[[], UInt8[np.ndarray, "H W"]]


@dataclass(frozen=True)
class DownloadedLabels:
    """A data set as downloaded.

    Attributes:
        layout: Layout of the new data set.
        photos: Its photos, at least one.
        lists: Lists of the new data set: content by place.
        left_out: What has no labels, and how often.
    """

    layout: Layout
    photos: list[PhotoLabels]
    lists: Mapping[str, str]
    left_out: Mapping[str, int]
