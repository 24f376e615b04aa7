"""What the values of label files mean: which stored value is which class, and what counts for none.

A label map of ours has 0..K-1 for the classes and 255 where nobody labelled. Files have their own
numbers (ADE20K begins at 1, Cityscapes leaves numbers out), or colours; `LabelRule` says which, and
classes.json says so for a data set of one's own:

    {"classes": ["road", "sky"]}                              road is stored as 0, sky as 1
    {"classes": ["road", "sky"], "values": [0, 255]}          sky is stored as 255
    {"classes": [...], "palette": [[128, 64, 128], ...]}      colours, also for files of colours
    {"classes": [...], "ignored": [11, [0, 0, 0]]}            values and colours of no class

The value 255 and the colour black stand for unlabelled unless a class has them.
"""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from ziggurat.class_lists import Colour
from ziggurat.errors import ZigguratError, check_known
from ziggurat.types import UNLABELLED

CLASS_FILE = "classes.json"
_KEYS = ("classes", "palette", "values", "ignored", "ignore_index")
_LARGEST_VALUE = 65535
_BLACK: Colour = (0, 0, 0)


@dataclass(frozen=True)
class LabelRule:
    """What the values of label files mean.

    Attributes:
        classes: Name of each class.
        palette: Colour of each class, red, green and blue, or None where none is given.
        values: Stored value of each class.
        ignored: Stored values of pixels that nobody labelled.
        ignored_colours: Colours of such pixels, in files of colours.
    """

    classes: tuple[str, ...]
    palette: tuple[Colour, ...] | None
    values: tuple[int, ...]
    ignored: frozenset[int] = field(default=frozenset({UNLABELLED}))
    ignored_colours: frozenset[Colour] = field(default=frozenset({_BLACK}))

    @cached_property
    def table(self) -> UInt8[np.ndarray, " V"]:
        """Label of each stored value; 255 also where a value is neither a class nor ignored."""
        size = max(UNLABELLED, *self.values, *self.ignored) + 1
        table = np.full(size, UNLABELLED, dtype=np.uint8)
        table[list(self.values)] = np.arange(len(self.values))
        return table

    @cached_property
    def is_known(self) -> Bool[np.ndarray, " V"]:
        """Whether a stored value may occur."""
        known = np.zeros(len(self.table), dtype=bool)
        known[[*self.values, *self.ignored]] = True
        return known

    def expected(self) -> str:
        """Say in words which values may occur."""
        low, high = min(self.values), max(self.values)
        if high - low + 1 == len(self.values):
            classes = f"{low}..{high}" if high > low else str(low)
        else:
            classes = f"{len(self.values)} values in {low}..{high}"
        others = sorted(self.ignored)
        if not others:
            return classes
        few = [str(value) for value in others[:3]] + (["..."] if len(others) > 3 else [])
        return f"{classes}, or {' or '.join(few)} where nobody labelled"


def counted_rule(
    classes: tuple[str, ...],
    palette: tuple[Colour, ...] | None,
    *,
    first: int = 0,
    ignored: frozenset[int] = frozenset(),
) -> LabelRule:
    """Return the rule of classes that are stored as first, first + 1, ...

    Args:
        classes: Name of each class.
        palette: Colour of each class, or None.
        first: Stored value of class 0.
        ignored: Stored values of unlabelled pixels besides 255.
    """
    values = tuple(range(first, first + len(classes)))
    return LabelRule(classes, palette, values, ignored | {UNLABELLED})


def read_rule(root: Path) -> LabelRule:
    """Read classes.json of a folder.

    Args:
        root: Folder of a data set or of predictions.

    Raises:
        ZigguratError: If there is none, or it says something wrong.
    """
    path = root / CLASS_FILE
    if not path.is_file():
        raise ZigguratError(
            f"{root} says nothing about its classes: expected {CLASS_FILE} with "
            f'{{"classes": ["road", ...]}} for the label values 0, 1, ...'
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ZigguratError(f"class file {path} is no JSON that can be read: {error}") from error
    if not isinstance(content, dict):
        raise ZigguratError(f"class file {path} must hold an object with the list 'classes'")
    for key in content:
        check_known(f"entry of {path}", key, _KEYS)
    classes = _read_classes(path, content.get("classes"))
    palette = _read_palette(path, content.get("palette"), len(classes))
    values = _read_values(path, content.get("values"), len(classes))
    entries = _read_ignored(path, content)
    numbers = {entry for entry in entries if isinstance(entry, int)} | ({UNLABELLED} - set(values))
    colours = {entry for entry in entries if not isinstance(entry, int)}
    colours |= {_BLACK} - set(palette or ())
    both = [*sorted(numbers & set(values)), *sorted(colours & set(palette or ()))]
    if both:
        raise ZigguratError(f"class file {path} gives {both[0]} to a class and to what is ignored")
    return LabelRule(classes, palette, values, frozenset(numbers), frozenset(colours))


def _read_classes(path: Path, names: object) -> tuple[str, ...]:
    if (
        not isinstance(names, list)
        or not 1 <= len(names) <= UNLABELLED
        or not all(isinstance(name, str) and name for name in names)
        or len(set(names)) < len(names)
    ):
        raise ZigguratError(
            f"class file {path} must hold the list 'classes' of 1 to {UNLABELLED} different names"
        )
    return tuple(names)


def _read_palette(path: Path, palette: object, count: int) -> tuple[Colour, ...] | None:
    if palette is None:
        return None
    if (
        not isinstance(palette, list)
        or len(palette) != count
        or not all(_is_colour(colour) for colour in palette)
    ):
        raise ZigguratError(
            f"the palette of class file {path} must hold one colour [red, green, blue] of levels "
            f"0..255 for each of {count} classes"
        )
    return tuple((red, green, blue) for red, green, blue in palette)


def _read_values(path: Path, values: object, count: int) -> tuple[int, ...]:
    if values is None:
        return tuple(range(count))
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(_is_value(value) for value in values)
        or len(set(values)) < count
    ):
        raise ZigguratError(
            f"'values' of class file {path} must hold a different number of 0..{_LARGEST_VALUE} "
            f"for each of {count} classes"
        )
    return tuple(values)


def _read_ignored(path: Path, content: dict[str, object]) -> list[int | Colour]:
    listed = content.get("ignored", [])
    single = content.get("ignore_index")
    if (
        not isinstance(listed, list)
        or not all(_is_value(entry) or _is_colour(entry) for entry in listed)
        or not (single is None or _is_value(single))
    ):
        raise ZigguratError(
            f"class file {path} may have 'ignored', a list of values 0..{_LARGEST_VALUE} and of "
            "colours [red, green, blue], and 'ignore_index', one value"
        )
    entries: list[int | Colour] = [
        (entry[0], entry[1], entry[2]) if isinstance(entry, list) else entry for entry in listed
    ]
    return entries + ([single] if isinstance(single, int) else [])


def _is_value(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST_VALUE


def _is_colour(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(level) is int and 0 <= level <= 255 for level in value)
    )
