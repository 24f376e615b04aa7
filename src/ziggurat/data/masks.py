"""Masks of objects as COCO writes them: outlines along pixel edges, and run lengths.

Both are exact: rasterising an outline by COCO's rule gives back the very pixels it was traced from,
because every corner lies between pixels. Run lengths go down the columns, beginning with the
zeros (the first count is 0 where the first pixel is set).

Shapes: H x W an image, P corners of an outline.
"""

import numpy as np
from jaxtyping import Bool, Int64

from ziggurat.ops.run_lengths import count_runs


def outlines(mask: Bool[np.ndarray, "H W"]) -> tuple[list[list[int]], bool]:
    """Trace the edges of a mask.

    Pixels that touch at a corner only belong to different outlines, so that no outline crosses
    itself.

    Returns:
        Flat x, y lists, one an outline, and whether one of them goes round a hole (which COCO
        polygons, whose union is taken, cannot say).
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [], False
    top, left = int(rows[0]), int(columns[0])
    mask = mask[top : rows[-1] + 1, left : columns[-1] + 1]  # most objects are small
    padded = np.pad(mask, 1).astype(np.int8)
    top_left, top_right = padded[:-1, :-1], padded[:-1, 1:]
    bottom_left, bottom_right = padded[1:, :-1], padded[1:, 1:]
    count = top_left + top_right + bottom_left + bottom_right
    # A point between pixels is a corner if one or three of its four pixels are set; where two
    # pixels face each other across it, two corners coincide.
    is_double = (count == 2) & (top_left == bottom_right)
    multiplicity = (count % 2) + 2 * is_double
    ys, xs = np.nonzero(multiplicity)
    repeats = multiplicity[ys, xs]
    # Corners in the order of rows: neighbours (0, 1), (2, 3), ... are ends of horizontal edges.
    rows_y, rows_x = np.repeat(ys, repeats), np.repeat(xs, repeats)
    # The copy of a double corner that ends the edge from the left continues upwards if the pixel
    # up left is set, else downwards; in the order of columns the upward copy comes first.
    copy = np.zeros(len(rows_y), dtype=np.int64)
    second = np.flatnonzero((rows_y[1:] == rows_y[:-1]) & (rows_x[1:] == rows_x[:-1])) + 1
    copy[second] = 1
    turns_down = is_double[rows_y, rows_x] & (top_left[rows_y, rows_x] == 0)
    by_column = np.lexsort((np.where(turns_down, 1 - copy, copy), rows_y, rows_x))
    across = np.arange(len(rows_y)) ^ 1
    along = np.empty_like(across)
    along[by_column] = by_column[np.arange(len(by_column)) ^ 1]
    # The first corner in row order is the upper left one of its outline: the pixel below and
    # right of it lies inside the outline, and is unset only where that goes round a hole.
    is_hole = padded[rows_y + 1, rows_x + 1] == 0
    return _follow(rows_x + left, rows_y + top, across, along, is_hole)


def _follow(
    xs: Int64[np.ndarray, " P"],
    ys: Int64[np.ndarray, " P"],
    across: Int64[np.ndarray, " P"],
    along: Int64[np.ndarray, " P"],
    is_hole: Bool[np.ndarray, " P"],
) -> tuple[list[list[int]], bool]:
    """Go from corner to corner, by turns across and along, until each was visited."""
    x_of, y_of, next_across, next_along = xs.tolist(), ys.tolist(), across.tolist(), along.tolist()
    visited = bytearray(len(x_of))
    found: list[list[int]] = []
    has_hole = False
    for start in range(len(x_of)):
        if visited[start]:
            continue
        has_hole |= bool(is_hole[start])
        outline: list[int] = []
        corner = start
        while not visited[corner]:
            partner = next_across[corner]
            visited[corner] = visited[partner] = 1
            outline += (x_of[corner], y_of[corner], x_of[partner], y_of[partner])
            corner = next_along[partner]
        found.append(outline)
    return found, has_hole


def run_lengths(mask: Bool[np.ndarray, "H W"]) -> list[int]:
    """Count the zeros, then the ones, then the zeros, ... down the columns."""
    counts: list[int] = count_runs(mask, 0, 0, (mask.shape[0], mask.shape[1])).tolist()
    return counts
