"""The colour of each class of a label map, found by the names of the classes.

A well-known data set has its usual colours, so that pictures look like the published ones; any
other classes get generated colours that are told apart.

Shapes: K classes.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import UInt8

from ziggurat.class_lists import LISTS, Colour, class_list
from ziggurat.visualize.draw import class_colour

_OPTIONAL = "background"
"""Data sets that have this class are also used without it."""


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
    """Return the colour of each class, for every list of classes."""
    lists = (class_list(name) for name in LISTS)
    return tuple(
        {name.lower(): colour for name, colour in zip(known.classes, known.palette, strict=True)}
        for known in lists
    )
