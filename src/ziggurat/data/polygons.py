"""Fill polygons by COCO's own rule, equal to its tools in every pixel.

COCO walks along an outline in steps of a fifth of a pixel, on whole fifths. Wherever it passes the
middle of a column of pixels (from the fifth 5 x + 2 to 5 x + 3 or back), the column changes
between outside and inside at the height of that step; what lies between the first and the
second change, the third and the fourth, ... is filled. All polygons of an image are filled
together: an image may have a thousand.

Shapes: H x W an image, n polygons, P corners of all of them, S steps along all edges.
"""

import numpy as np
from jaxtyping import Bool, Int32, Int64, Real

from ziggurat.types import ImageSize

_SCALE = 5
_MIDDLE = 2  # of the five fifths 0..4 of a pixel


def to_fifths(coordinates: Real[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
    """Round coordinates in pixels to fifths of a pixel, as COCO does.

    Args:
        coordinates: x, y, x, y, ... in pixels.
    """
    return (_SCALE * coordinates.astype(np.float64) + 0.5).astype(
        np.int32
    )  # towards zero, which matters below zero


def fill_polygons(
    corners: Int32[np.ndarray, "P 2"], first: Int64[np.ndarray, " n"], size: ImageSize
) -> tuple[list[Bool[np.ndarray, "_ _"]], Int64[np.ndarray, "n 4"]]:
    """Fill polygons inside their windows.

    Args:
        corners: x and y of all corners in fifths of a pixel, one polygon after the other.
        first: Number of each polygon's first corner; each polygon has at least one.
        size: Height and width of the image.

    Returns:
        Pixels of the window of each polygon, and its window: left, top, width, height.
    """
    num_polygons = len(first)
    if not num_polygons:
        return [], np.zeros((0, 4), dtype=np.int64)
    owner, xs, ys = _changes(corners.astype(np.int64), first, size)
    windows = _windows(owner, xs, ys, num_polygons)
    left, top, width, height = windows.T
    # The pixels of each window down the columns, with a row below for changes at the bottom.
    spans = width * (height + 1)
    starts = np.concatenate([[0], np.cumsum(spans)])
    places = starts[owner] + (xs - left[owner]) * (height[owner] + 1) + ys - top[owner]
    changed, times = np.unique(places, return_counts=True)
    inside = np.zeros(starts[-1], dtype=bool)
    inside[changed[times % 2 == 1]] = True
    # An outline passes every column an even number of times: each column ends outside.
    np.logical_xor.accumulate(inside, out=inside)
    crops = [
        inside[start:stop].reshape(w, h + 1)[:, :h].T
        for start, stop, w, h in zip(
            starts[:-1].tolist(), starts[1:].tolist(), width.tolist(), height.tolist(), strict=True
        )
    ]
    return crops, windows


def _changes(
    corners: Int64[np.ndarray, "P 2"], first: Int64[np.ndarray, " n"], size: ImageSize
) -> tuple[Int64[np.ndarray, " M"], Int64[np.ndarray, " M"], Int64[np.ndarray, " M"]]:
    """Walk along all outlines; polygon, column and row of every change."""
    num_corners = np.diff(np.append(first, len(corners)))
    polygon = np.repeat(np.arange(len(first)), num_corners)
    following = np.arange(1, len(corners) + 1)
    following[first + num_corners - 1] = first
    x, y = corners.T
    x_to, y_to = corners[following].T
    is_flat = np.abs(x_to - x) >= np.abs(y_to - y)
    # Along the longer side; an edge is walked the same way whichever end comes first.
    length = np.where(is_flat, np.abs(x_to - x), np.abs(y_to - y))
    is_back = np.where(is_flat, x > x_to, y > y_to)
    start_x, start_y = np.where(is_back, x_to, x), np.where(is_back, y_to, y)
    rise = np.where(is_flat, y_to - y, x_to - x) * np.where(is_back, -1, 1)
    slope = rise / np.maximum(length, 1)

    edge = np.repeat(np.arange(len(corners)), length + 1)
    begin = np.concatenate([[0], np.cumsum(length + 1)])
    step = np.arange(begin[-1]) - begin[edge]
    step = np.where(is_back[edge], length[edge] - step, step)
    along = step + np.where(is_flat, start_x, start_y)[edge]
    base = np.where(is_flat, start_y, start_x)[edge]
    across = (base + slope[edge] * step + 0.5).astype(np.int64)  # towards zero, as above
    flat = is_flat[edge]
    xs, ys = np.where(flat, along, across), np.where(flat, across, along)

    lower = np.minimum(xs[1:], xs[:-1])
    passes = (xs[1:] != xs[:-1]) & (lower % _SCALE == _MIDDLE)
    passes &= (lower >= 0) & (lower < _SCALE * size[1])
    passes[begin[first[1:]] - 1] = False  # from one polygon to the next
    (found,) = np.nonzero(passes)
    rows = -((_MIDDLE - np.minimum(ys[found], ys[found + 1])) // _SCALE)  # rounded up
    return polygon[edge[found]], lower[found] // _SCALE, rows.clip(0, size[0])


def _windows(
    owner: Int64[np.ndarray, " M"],
    xs: Int64[np.ndarray, " M"],
    ys: Int64[np.ndarray, " M"],
    num_polygons: int,
) -> Int64[np.ndarray, "n 4"]:
    """Smallest window around the changes of each polygon; empty where there are none."""
    far = np.iinfo(np.int64).max
    low = np.full((num_polygons, 2), far)
    high = np.full((num_polygons, 2), -1)
    for axis, values in enumerate((xs, ys)):
        np.minimum.at(low[:, axis], owner, values)
        np.maximum.at(high[:, axis], owner, values)
    high[:, 0] += 1  # columns are filled whole, rows up to the last change
    low[high[:, 1] < 0] = 0
    return np.concatenate([low, np.maximum(high - low, 0)], axis=1)
