"""The masks of a whole annotation file in a few arrays, and those of one image out of them.

Worker processes share arrays; a million lists of corners would be copied to each of them.

Shapes: M objects of the file, N of an image.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64

from ziggurat.data.polygons import fill_polygons, to_fifths
from ziggurat.ops.object_masks import from_crops
from ziggurat.ops.run_lengths import read_counts
from ziggurat.types import ImageSize, ObjectMasks

Crop = Bool[np.ndarray, "_ _"]
Window = tuple[int, int, int, int]

_FAR = 20
"""No corner is so many image sides away from the origin."""


@dataclass(frozen=True)
class Segment:
    """Mask of one object as the file says it.

    Attributes:
        parts: Corners of each polygon in fifths of a pixel, or the run lengths.
        is_runs: Whether it is run lengths.
    """

    parts: tuple[Int32[np.ndarray, " _"], ...]
    is_runs: bool


def read_segment(segmentation: object, size: ImageSize) -> Segment:
    """Check and take over an entry "segmentation".

    Args:
        segmentation: Polygons, or run lengths as a list or a text.
        size: Height and width of the image.

    Raises:
        ValueError: If it is neither; says what is the matter.
    """
    if isinstance(segmentation, list) and segmentation:
        return Segment(tuple(_polygon(polygon, size) for polygon in segmentation), False)
    if isinstance(segmentation, Mapping):
        return Segment((_runs(segmentation, size),), True)
    if segmentation is None or segmentation == []:
        raise ValueError("it has no segmentation; masks need one for every object")
    raise ValueError(
        f"its segmentation is a {type(segmentation).__name__}, neither polygons nor run lengths"
    )


def _polygon(polygon: object, size: ImageSize) -> Int32[np.ndarray, " n"]:
    # As an array: a file may have fifty million numbers.
    try:
        numbers = np.array(polygon if isinstance(polygon, list) else None)
    except ValueError:  # lists of different lengths
        numbers = np.array(None)
    if numbers.ndim != 1 or numbers.dtype.kind not in "if" or not np.isfinite(numbers).all():
        raise ValueError("a polygon is not a list of finite numbers")
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(
            f"a polygon has {len(numbers)} numbers; expected x, y of at least three corners"
        )
    # Walking along an outline takes memory for every step.
    farthest = float(np.abs(numbers).max())
    if farthest > _FAR * max(size):
        raise ValueError(f"a polygon leaves the image by {farthest - max(size):g} pixels")
    return to_fifths(numbers)


def _runs(segmentation: Mapping[str, object], size: ImageSize) -> Int32[np.ndarray, " n"]:
    own_size, counts = segmentation.get("size"), segmentation.get("counts")
    if own_size != list(size):
        raise ValueError(
            f"its run lengths have the size {own_size}, the image {list(size)} (height, width)"
        )
    if isinstance(counts, str):
        counts = read_counts(counts).tolist()
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        raise ValueError("its run lengths are neither whole numbers nor text")
    if any(count < 0 for count in counts) or sum(counts) != size[0] * size[1]:
        raise ValueError(
            f"its run lengths add up to {sum(counts)} pixels, not to {size[0]} x {size[1]}"
        )
    return np.asarray(counts, dtype=np.int32)


@dataclass(frozen=True)
class SegmentTable:
    """Masks of all objects of a file.

    Attributes:
        numbers: Corners and run lengths of all parts, one after the other.
        part_starts: First number of each part, and the number of all numbers at the end.
        object_starts: First part of each object, and the number of all parts at the end.
        is_runs: Whether an object's part is run lengths.
    """

    numbers: Int32[np.ndarray, " n"]
    part_starts: Int64[np.ndarray, " p"]
    object_starts: Int64[np.ndarray, " m"]
    is_runs: Bool[np.ndarray, " M"]

    @classmethod
    def of(cls, segments: list[Segment]) -> "SegmentTable":
        """Put the masks of objects together."""
        parts = [part for segment in segments for part in segment.parts]
        return cls(
            numbers=np.concatenate([np.zeros(0, dtype=np.int32), *parts]),
            part_starts=_starts([len(part) for part in parts]),
            object_starts=_starts([len(segment.parts) for segment in segments]),
            is_runs=np.array([segment.is_runs for segment in segments], dtype=bool),
        )

    def masks(self, start: int, stop: int, size: ImageSize) -> ObjectMasks:
        """Rasterise the masks of some objects.

        Args:
            start: First object.
            stop: Object after the last one.
            size: Height and width of the image that they belong to.
        """
        parts = np.arange(self.object_starts[start], self.object_starts[stop])
        owner = np.repeat(np.arange(stop - start), np.diff(self.object_starts[start : stop + 1]))
        is_runs = self.is_runs[start:stop][owner]
        found: list[list[tuple[Crop, Window]]] = [[] for _ in range(stop - start)]
        polygons = parts[~is_runs]
        crops, windows = self._fill(polygons, size)
        for number, crop, (x, y, w, h) in zip(
            owner[~is_runs], crops, windows.tolist(), strict=True
        ):
            found[number].append((crop, (x, y, w, h)))
        for number, part in zip(owner[is_runs], parts[is_runs], strict=True):
            counts = self.numbers[self.part_starts[part] : self.part_starts[part + 1]]
            found[number].append(_unroll(counts, size))
        joined = [_union(pieces) for pieces in found]
        windows = np.array([window for _, window in joined], dtype=np.int64).reshape(-1, 4)
        return from_crops([crop for crop, _ in joined], windows, size)

    def _fill(
        self, polygons: Int64[np.ndarray, " p"], size: ImageSize
    ) -> tuple[list[Crop], Int64[np.ndarray, "p 4"]]:
        starts, stops = self.part_starts[polygons], self.part_starts[polygons + 1]
        corners = [self.numbers[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
        flat = np.concatenate([np.zeros(0, dtype=np.int32), *corners]).reshape(-1, 2)
        return fill_polygons(flat, _starts((stops - starts) // 2)[:-1], size)


def _starts(lengths: list[int] | Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _unroll(counts: Int32[np.ndarray, " n"], size: ImageSize) -> tuple[Crop, Window]:
    """Write run lengths out inside their window."""
    height = size[0]
    ends = np.cumsum(counts, dtype=np.int64)
    if not counts[1::2].any():
        return np.zeros((0, 0), dtype=bool), (0, 0, 0, 0)
    ones = np.flatnonzero(counts[1::2]) * 2 + 1
    left, right = int(ends[ones[0] - 1]) // height, (int(ends[ones[-1]]) - 1) // height + 1
    # The run lengths with the columns at the left and at the right cut off.
    inside = np.diff(ends.clip(left * height, right * height), prepend=left * height)
    columns = np.repeat(np.arange(len(counts)) % 2 == 1, inside).reshape(right - left, height)
    rows = np.flatnonzero(columns.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return columns[:, top:bottom].T, (left, top, right - left, bottom - top)


def _union(pieces: list[tuple[Crop, Window]]) -> tuple[Crop, Window]:
    """Make one mask of an object's polygons; an empty one where there are none."""
    if not pieces:
        return np.zeros((0, 0), dtype=bool), (0, 0, 0, 0)
    pieces = [piece for piece in pieces if piece[0].size] or pieces[:1]
    if len(pieces) == 1:
        return pieces[0]
    left, top = (min(window[axis] for _, window in pieces) for axis in (0, 1))
    right = max(window[0] + window[2] for _, window in pieces)
    bottom = max(window[1] + window[3] for _, window in pieces)
    union = np.zeros((bottom - top, right - left), dtype=bool)
    for crop, (x, y, width, height) in pieces:
        union[y - top : y - top + height, x - left : x - left + width] |= crop
    return union, (left, top, right - left, bottom - top)
