"""The colour of each class of a label map, found by the names of the classes.

A well-known data set has its usual colours, so that pictures look like the published ones; any
other classes get generated colours that are told apart.

Shapes: K classes.
"""

from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np
from jaxtyping import UInt8

from ziggurat.visualize.draw import class_colour

_OPTIONAL = "background"
"""Data sets that have this class are also used without it."""

Colour = tuple[int, int, int]


def class_colours(classes: Sequence[str]) -> UInt8[np.ndarray, "K 3"]:
    """Return red, green and blue of each class.

    Args:
        classes: Name of each class.
    """
    known = known_colours(classes)
    if known is not None:
        return known
    colours = [class_colour(label) for label in range(len(classes))]
    return np.array(colours, dtype=np.uint8).reshape(-1, 3)


def known_colours(classes: Sequence[str]) -> UInt8[np.ndarray, "K 3"] | None:
    """Return the colours of a well-known data set, or None where the classes are not those of one.

    Args:
        classes: Name of each class, in any order, in capitals or not.
    """
    names = [name.lower() for name in classes]
    for table in _tables():
        if set(names) in (set(table), set(table) - {_OPTIONAL}):
            return np.array([table[name] for name in names], dtype=np.uint8)
    return None


@cache
def _tables() -> tuple[dict[str, Colour], ...]:
    """Read every list of classes; a row has name, red, green, blue.

    The files are read as files because nothing in `visualize` may import `data`.
    """
    folder = resources.files("ziggurat") / "data" / "class_lists"
    files = sorted((file for file in folder.iterdir()), key=lambda file: file.name)
    tables = []
    for file in files:
        rows = [row.split("\t") for row in file.read_text(encoding="utf-8").splitlines()]
        tables.append({name.lower(): (int(r), int(g), int(b)) for name, r, g, b in rows})
    return tuple(tables)
