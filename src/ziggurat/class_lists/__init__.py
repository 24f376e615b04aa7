"""Classes and colours of well-known data sets, in the order of their labels.

Names are those of the data sets' publishers, the first of several synonyms; colours are the usual
ones of published pictures, most of them those of MMSegmentation's tables. A file *.tsv here has one
class a row: name, red, green, blue.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources

from timm.data.imagenet_info import ImageNetInfo

Colour = tuple[int, int, int]
"""Red, green, blue of 0..255."""

LISTS = ("ade20k", "camvid", "cityscapes", "coco_stuff", "pascal_context", "pascal_voc")
"""Names of the lists."""

COCO_OBJECTS = 80
"""Classes of COCO's objects; the things of COCO-Stuff are the same, and come first there."""


@dataclass(frozen=True)
class ClassList:
    """Classes of a data set.

    Attributes:
        classes: Name of each class.
        palette: Colour of each class.
    """

    classes: tuple[str, ...]
    palette: tuple[Colour, ...]


@cache
def class_list(name: str) -> ClassList:
    """Return the classes of a data set.

    Args:
        name: One of `LISTS`.
    """
    file = resources.files("ziggurat") / "class_lists" / f"{name}.tsv"
    rows = [row.split("\t") for row in file.read_text(encoding="utf-8").splitlines()]
    return ClassList(
        tuple(name for name, *_ in rows),
        tuple((int(red), int(green), int(blue)) for _, red, green, blue in rows),
    )


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the 1000 classes of ImageNet (ILSVRC 2012); two pairs of them have one name."""
    words = ImageNetInfo().label_descriptions()
    return tuple(synonyms.split(",")[0] for synonyms in words)
