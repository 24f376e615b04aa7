"""Read the class of every pixel of an image from a label file.

The values are taken as they are stored, whatever their number of bits, and a palette is only for
the eye: index 3 of a palette is the value 3. Files with colours are read by the palette of the
rule. What compression by loss may have changed is refused, and so is every value or colour that
the rule does not know: a wrong label that is taken for another class spoils training in silence.

A file is decoded once, and Pillow's own histogram and lookup do the rest, a fraction of the time
that decoding takes.
"""

from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8, UInt32
from PIL import Image, ImageFile

from ziggurat.class_lists import Colour
from ziggurat.data.decode import decode_with
from ziggurat.data.label_rules import CLASS_FILE, LabelRule
from ziggurat.types import UNLABELLED, ImageSize

Labels = UInt8[np.ndarray, "H W"]
Numbers = Integer[np.ndarray, "H W"]

_LOSSY = ("JPEG", "MPO")
_SHOWN = 5
_SCALED = {"L;2": 85, "L;4": 17}
"""Pillow multiplies grey values of 2 and 4 bits, so that the largest is white."""


def read_labels(path: Path, rule: LabelRule) -> Labels:
    """Read the class of every pixel; 255 where nobody labelled.

    Args:
        path: A PNG with one channel or a palette, whose values are labels, or with the colours of
            the rule.
        rule: What the values mean.
    """
    return decode_with(path, partial(_take_labels, rule=rule))


def read_numbers(path: Path) -> Numbers:
    """Read the number of every pixel as it is stored, whatever it means.

    Args:
        path: A PNG with a palette, or with one channel of 1 to 16 bits.
    """
    return decode_with(path, lambda image: _numbers(*_load(image)))


def label_mode(path: Path) -> str:
    """Return how Pillow calls the way in which a file stores its pixels ("L", "P", "I;16").

    Args:
        path: An image file.
    """
    return decode_with(path, lambda image: image.mode)


def unequal_sizes(labels: tuple[int, ...], image: ImageSize) -> str:
    """Say that a label file is not of the size of its image.

    Args:
        labels: Height and width of the labels.
        image: Height and width of the image.
    """
    return (
        f"its size {labels[0]} x {labels[1]} (height x width) differs from {image[0]} x {image[1]} "
        "of the image"
    )


def _take_labels(image: Image.Image, *, rule: LabelRule) -> Labels:
    """Give an open file's labels; what the rule does not know is an error."""
    image, scale = _load(image)
    if image.mode in ("RGB", "RGBA"):
        return _by_colour(image, rule)
    if image.mode in ("L", "P") and scale == 1:
        return _by_byte(image, rule)
    return _by_value(_numbers(image, scale), rule)


def _load(image: Image.Image) -> tuple[Image.Image, int]:
    """Load an open file; returns it, and by what Pillow has multiplied its values.

    Raises:
        ValueError: If its compression has changed them.
    """
    if image.format in _LOSSY:
        raise ValueError("it is a JPEG, whose compression changes labels; save labels as PNG")
    scale = _scale(image)
    image.load()
    has_alpha = image.mode in ("LA", "PA")  # alpha says nothing about labels
    return (image.getchannel(0) if has_alpha else image), scale


def _numbers(image: Image.Image, scale: int) -> Numbers:
    if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
        raise ValueError(f"it has the mode {image.mode}; expected one channel with whole numbers")
    values = np.asarray(image)
    return values.astype(np.int32) // scale if scale > 1 else values + 0


def _scale(image: Image.Image) -> int:
    """Return by what Pillow will multiply the stored values."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return 1
    raw_mode = image.tile[0][3]
    return _SCALED.get(raw_mode, 1) if isinstance(raw_mode, str) else 1


def _by_byte(image: Image.Image, rule: LabelRule) -> Labels:
    counts = np.array(image.histogram(), dtype=np.int64)
    present = np.flatnonzero(counts)
    _check(present, counts[present], rule)
    table = rule.table[: len(counts)]
    if (table[present] == present).all():
        return np.array(image)
    return np.array(image.point(table.tolist()))


def _by_value(values: Integer[np.ndarray, "H W"], rule: LabelRule) -> Labels:
    inside = values.clip(0, len(rule.table) - 1)
    if not ((inside == values) & rule.is_known[inside]).all():
        _check(*np.unique(values, return_counts=True), rule)
    return rule.table[inside]


def _check(
    present: Integer[np.ndarray, " V"], counts: Integer[np.ndarray, " V"], rule: LabelRule
) -> None:
    """Look for values that mean nothing.

    Args:
        present: Values that occur.
        counts: Pixels of each.
        rule: What values mean.

    Raises:
        ValueError: If there is one.
    """
    is_inside = (present >= 0) & (present < len(rule.is_known))
    is_wrong = ~(is_inside & rule.is_known[np.where(is_inside, present, 0)])
    if is_wrong.any():
        wrong = [str(value) for value in present[is_wrong].tolist()]
        raise ValueError(
            f"it has the {_listed('label', wrong)} in {counts[is_wrong].sum()} pixels; expected "
            f"{rule.expected()}"
        )


def _by_colour(image: Image.Image, rule: LabelRule) -> Labels:
    """Give each colour its class.

    Raises:
        ValueError: If there is no palette, or a colour is not in it, or in it twice.
    """
    if rule.palette is None:
        raise ValueError(
            f"it has the mode {image.mode}; expected one channel whose values are labels, or a "
            f"'palette' in {CLASS_FILE} that gives a colour to each class"
        )
    if len(set(rule.palette)) < len(rule.palette):
        raise ValueError(
            f"it has the mode {image.mode}, and the palette gives one colour to two classes; save "
            "labels as values of one channel"
        )
    codes = _codes(image)
    labels = _colour_table(rule.palette)[codes]
    others, counts = np.unique(codes[labels == UNLABELLED], return_counts=True)
    is_wrong = ~np.isin(others, [_code(colour) for colour in rule.ignored_colours])
    if is_wrong.any():
        wrong = [str(_colour(code)) for code in others[is_wrong].tolist()]
        may_ignore = rule.ignored or rule.ignored_colours
        expected = (
            f"no class has such a colour, and 'ignored' in {CLASS_FILE} does not name it"
            if may_ignore
            else f"expected {', '.join(map(str, rule.palette))}"
        )
        raise ValueError(
            f"it has the {_listed('colour', wrong)} in {counts[is_wrong].sum()} pixels; {expected}"
        )
    return labels


@lru_cache(maxsize=1)
def _colour_table(palette: tuple[Colour, ...]) -> UInt8[np.ndarray, " 16777216"]:
    """Make the table of the class of every colour: 16 MB, and a single look-up a pixel."""
    table = np.full(1 << 24, UNLABELLED, dtype=np.uint8)
    table[[_code(colour) for colour in palette]] = np.arange(len(palette))
    return table


def _codes(image: Image.Image) -> UInt32[np.ndarray, "H W"]:
    """Make one number of each colour: Pillow keeps a pixel's three bytes in four."""
    pixels = np.asarray(image.convert("RGBX")).view("<u4")[..., 0]
    return pixels & np.uint32(0xFFFFFF)


def _code(colour: Colour) -> int:
    red, green, blue = colour
    return red | green << 8 | blue << 16


def _colour(code: int) -> Colour:
    return code & 255, code >> 8 & 255, code >> 16


def _listed(noun: str, values: list[str]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return f"{noun}{'s' if len(values) > 1 else ''} {', '.join(values[:_SHOWN])}{more}"
