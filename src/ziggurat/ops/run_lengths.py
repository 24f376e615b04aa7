"""Masks of objects as COCO's compressed run lengths, straight from their windows.

Run lengths go down the columns of the image and begin with the zeros. A window says where its
pixels lie in the image, so that the mask of the whole image is never made: a hundred masks of a
photo cost what their objects cost.

Shapes: N objects, R runs of all of them.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from ziggurat.types import ImageSize, ObjectMasks

_MAX_DIGITS = 8
"""Digits of 5 bits that hold the pixels of any image of up to 2 ** 39 pixels."""


def encode_masks(masks: ObjectMasks) -> list[str]:
    """Return the compressed run lengths of each mask, equal to those of COCO's tools.

    Args:
        masks: Masks of N objects.
    """
    if not len(masks):
        return []
    crops = [crop.numpy() for crop in masks.to("cpu").crops()]
    windows = masks.windows.tolist()
    runs = [
        count_runs(crop, left, top, masks.size)
        for crop, (left, top, _, _) in zip(crops, windows, strict=True)
    ]
    return compress_counts(runs)


def read_counts(text: str) -> Int64[np.ndarray, " R"]:
    """Undo the compression: return the counts.

    Args:
        text: Compressed run lengths of one mask.

    Raises:
        ValueError: If a character is outside the alphabet or the text ends in mid-number.
    """
    digits = np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    if ((digits < 0) | (digits >= 64)).any():
        raise ValueError("compressed run lengths hold a character outside of their alphabet")
    stops = np.flatnonzero(digits < 32) + 1
    if not len(digits) or stops[-1:].tolist() != [len(digits)]:
        raise ValueError("compressed run lengths end in the middle of a number")
    starts = np.concatenate([[0], stops[:-1]])
    lengths = stops - starts
    if lengths.max() > _MAX_DIGITS:
        raise ValueError("compressed run lengths hold a number that is no size of an image")
    shifts = 5 * (np.arange(len(digits)) - np.repeat(starts, lengths))
    counts = np.add.reduceat((digits & 31) << shifts, starts)
    counts -= np.where(digits[stops - 1] & 16, np.int64(1) << (5 * lengths), 0)
    for first in (1, 2):  # a count is told by its difference to the last but one
        counts[first::2] = np.cumsum(counts[first::2])
    return counts


def count_runs(
    crop: Bool[np.ndarray, "h w"], left: int, top: int, size: ImageSize
) -> Int64[np.ndarray, " r"]:
    """Count zeros and ones, by turns, down the columns of the image.

    Args:
        crop: Pixels of a window; unset outside of it.
        left: First column of the window.
        top: First row of the window.
        size: Height and width of the image.
    """
    height, width = size
    # An unset pixel above each column, and one behind the last, end every run in its column.
    step = crop.shape[0] + 1
    flat = np.zeros(crop.shape[1] * step + 1, dtype=bool)
    flat[:-1].reshape(-1, step)[:, 1:] = crop.T
    last = np.flatnonzero(flat[1:] != flat[:-1])  # of a gap, of a run, of a gap, ...
    last[::2] += 1  # a run begins behind the gap
    columns, rows = np.divmod(last, step)
    places = (left + columns) * height + top + rows - 1
    places[1::2] += 1
    # A run that reaches the bottom of the image goes on at the top of the next column.
    if crop.shape[0] == height:
        goes_on = np.flatnonzero(places[1:-1:2] == places[2::2])
        places = np.delete(places, np.concatenate([2 * goes_on + 1, 2 * goes_on + 2]))
    return count_between(places, height * width)


def count_between(places: Int64[np.ndarray, " p"], num_pixels: int) -> Int64[np.ndarray, " r"]:
    """Return the counts of runs that are told by their ends.

    Args:
        places: Where the first run of ones begins, where it has ended, and so on, down the columns.
        num_pixels: Pixels of the image.
    """
    counts = np.diff(places, prepend=0, append=num_pixels)
    return counts[:-1] if len(places) and counts[-1] == 0 else counts


def compress_counts(runs: Sequence[Int64[np.ndarray, " _"]]) -> list[str]:
    """Write counts as COCO does, those of all objects at once; `read_counts` undoes it.

    From the fourth on, a count is the difference to the last but one. It is written in digits of
    5 bits, the lowest first; the sixth bit of a character says that another follows.

    Args:
        runs: Counts of each of N > 0 objects.
    """
    lengths = np.array([len(counts) for counts in runs])
    flat = np.concatenate(runs)
    begin = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    position = np.arange(len(flat)) - np.repeat(begin, lengths)
    (late,) = np.nonzero(position > 2)
    values = flat.copy()
    values[late] -= flat[late - 2]
    shifts = 5 * np.arange(_MAX_DIGITS)
    digits = (values[:, None] >> shifts) & 31
    # k digits hold numbers of 5 k - 1 bits and a sign.
    limits = np.int64(1) << (shifts[1:] - 1)
    too_long = (values[:, None] >= limits) | (values[:, None] < -limits)
    num_digits = 1 + too_long.sum(axis=1)
    number = np.arange(_MAX_DIGITS)
    goes_on = number < num_digits[:, None] - 1
    characters = (digits + 32 * goes_on + 48).astype(np.uint8)
    text = characters[number < num_digits[:, None]].tobytes().decode("ascii")
    stops = np.cumsum(np.add.reduceat(num_digits, begin)).tolist()
    return [text[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
