"""Masks as polygons that a person can edit."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ziggurat.data.masks import outlines
from ziggurat.types import Detections

TOLERANCE = 1.0
"""How far a simplified polygon may be from the edge of its mask, in pixels."""

Points = Float[np.ndarray, "_ 2"]
"""x, y of the corners of a polygon, in pixels of the image."""


def polygons_of(found: Detections) -> list[list[Points]]:
    """Return the simplified outlines of each object's mask, in pixels; holes are filled.

    Args:
        found: Objects; where they have no masks, there are no outlines.
    """
    if found.masks is None:
        return [[] for _ in range(len(found))]
    polygons = []
    for crop, window in zip(found.masks.crops(), found.masks.windows, strict=True):
        mask = crop.numpy()
        # An outline begins at an upper left corner: the pixel there is set unless it is a hole.
        corners = [
            np.array(outline, dtype=np.float64).reshape(-1, 2)
            for outline in outlines(mask)[0]
            if mask[outline[1], outline[0]]
        ]
        corner = window[:2].numpy()
        polygons.append([simplify(outline, TOLERANCE) + corner for outline in corners])
    return polygons


def simplify(corners: Points, tolerance: float) -> Points:
    """Leave out corners of a polygon that lie near the line between others.

    Douglas and Peucker, Cartographica 10(2), 1973, on the two halves between the first corner and
    the one farthest from it.

    Args:
        corners: A closed polygon.
        tolerance: Greatest distance of a corner that is left out, in pixels.

    Returns:
        The corners that stay; all, where less than a triangle would.
    """
    farthest = int(((corners - corners[0]) ** 2).sum(axis=1).argmax())
    closed = np.concatenate([corners, corners[:1]])
    stays = np.zeros(len(closed), dtype=bool)
    stays[[0, farthest]] = True
    stack = [(0, farthest), (farthest, len(corners))]
    while stack:
        start, end = stack.pop()
        if end - start < 2:
            continue
        chord = closed[end] - closed[start]
        between = closed[start + 1 : end] - closed[start]
        along = (between @ chord / max(float(chord @ chord), 1e-12)).clip(0, 1)
        distances = np.linalg.norm(between - along[:, None] * chord, axis=1)
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            middle = start + 1 + worst
            stays[middle] = True
            stack += [(start, middle), (middle, end)]
    kept = corners[stays[:-1]]
    return kept if len(kept) > 2 else corners


def largest(polygons: Sequence[Points], box: Float[np.ndarray, "2 2"]) -> Points:
    """Return the polygon around the largest part of an object, or its box if no pixel is set."""
    if not polygons:
        (x1, y1), (x2, y2) = box.tolist()
        return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    return max(polygons, key=_area)


def _area(corners: Points) -> float:
    x, y = corners.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
