"""The shapes of synthetic scenes: outlines, and how much of each pixel they cover.

Shapes: P corners of an outline, h x w the patch of pixels that an object covers.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image, ImageDraw

CLASSES = ("circle", "cross", "ring", "square", "star", "triangle")
"""Names of the classes, sorted as an ImageFolder sorts them; the label is the index."""

_SUPERSAMPLING = 4

Outline = Float[np.ndarray, "P 2"]


@dataclass(frozen=True)
class Pose:
    """Where a shape lies and how large it is.

    Attributes:
        x: Centre, in pixels from the left edge of the image.
        y: Centre, in pixels from the upper edge.
        radius: Half of the extent before stretching, in pixels.
        angle: Rotation, in radians.
        stretch: Ratio of the shape's own width to its height, at equal area.
    """

    x: float
    y: float
    radius: float
    angle: float
    stretch: float


@dataclass(frozen=True)
class Patch:
    """Coverage of the pixels in a rectangle, which may reach beyond the image.

    Attributes:
        coverage: Covered fraction of each pixel.
        left: Column of the first pixel in the image.
        top: Row of the first pixel in the image.
    """

    coverage: Float32[np.ndarray, "h w"]
    left: int
    top: int


def _circle(radius: float) -> Outline:
    return _corners([radius] * 48)


def _corners(radii: list[float]) -> Outline:
    """Put corners at equal angles, the first one straight up."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii) - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array(radii)[:, None]


_ARM = 0.98


def _cross() -> Outline:
    arm, half = _ARM, 0.3
    points = [np.array([[half, -arm], [half, -half], [arm, -half]])]
    quarter_turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    for _ in range(3):
        points.append(points[-1] @ quarter_turn)
    return np.concatenate(points)


_OUTLINES: dict[str, tuple[Outline, ...]] = {
    "circle": (_circle(0.95),),
    "cross": (_cross(),),
    "ring": (_circle(1.0), _circle(0.56)),
    "square": (_corners([1.15] * 4),),
    "star": (_corners([1.1, 0.45] * 5),),
    "triangle": (_corners([1.15] * 3),),
}
"""Outer outline, and the hole of the ring; the radii differ so that the areas are comparable."""


KEYPOINTS = ("top", "right", "bottom", "left")
"""Points that every shape has on its outline; in a mirror left and right change places."""

EDGES = ((0, 1), (1, 2), (2, 3), (3, 0))


def place_keypoints(label: int, pose: Pose) -> Outline:
    """Return x, y in pixels of the points of `KEYPOINTS` on a shape.

    Args:
        label: Class of the shape.
        pose: Where it lies.
    """
    name = CLASSES[label]
    outline = _place(_OUTLINES[name][0], pose)
    if name in ("circle", "ring"):  # nobody sees how they are turned
        x, y = outline.T
        return outline[[y.argmin(), x.argmax(), y.argmax(), x.argmin()]]
    if name == "star":  # the upper and the side tips, the notch between the two lower ones
        return outline[[0, 2, 5, 8]]
    if name == "triangle":  # the middle of the lower side between its corners
        top, right, left = outline
        return np.stack([top, right, (left + right) / 2, left])
    if name == "cross":  # the ends of the arms
        return _place(_corners([_ARM] * 4), pose)
    return outline


def _place(points: Outline, pose: Pose) -> Outline:
    """Turn points of a shape of radius 1 into pixels of the scene."""
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    widen = math.sqrt(pose.stretch)
    scale = pose.radius * np.array([widen, 1 / widen])
    rotation = np.array([[cos, sin], [-sin, cos]])
    placed: Outline = points * scale @ rotation + (pose.x, pose.y)
    return placed


def cover(label: int, pose: Pose) -> Patch:
    """Draw a shape with soft edges.

    It is drawn four times as large and averaged, whole, even where it leaves the image.
    """
    rings = [_place(outline, pose) for outline in _OUTLINES[CLASSES[label]]]
    left, top = (int(edge) - 1 for edge in np.floor(rings[0].min(axis=0)))
    right, bottom = (int(edge) + 1 for edge in np.ceil(rings[0].max(axis=0)))
    size = ((right - left) * _SUPERSAMPLING, (bottom - top) * _SUPERSAMPLING)
    canvas = Image.new("L", size)
    draw = ImageDraw.Draw(canvas)
    for ring, fill in zip(rings, (255, 0), strict=False):
        corners = (ring - (left, top)) * _SUPERSAMPLING - 0.5
        draw.polygon([(x, y) for x, y in corners.tolist()], fill=fill)
    coverage = np.asarray(canvas.reduce(_SUPERSAMPLING), dtype=np.float32) / 255
    return Patch(coverage, left, top)
