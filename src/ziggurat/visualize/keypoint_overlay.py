"""Draw keypoints over a picture so that they can be seen on any background.

Lines join the points as the skeleton says. Left and right have colours of their own, what has no
side is light, and a dark edge runs around all of it: on a bright wall the edge shows it, at night
the colour does. A point that is labelled but hidden is a ring, not a disc.
"""

from collections.abc import Sequence

from PIL import ImageDraw

from ziggurat.keypoints import Skeleton
from ziggurat.visualize.mask_overlay import Colour

SHOWN_FROM = 0.1
"""Found points with a lower score are not drawn, nor lines to them."""
HIDDEN = 1
"""Visibility of a true point that is labelled but not seen."""

_DARK: Colour = (20, 20, 20)
_MIDDLE: Colour = (240, 240, 240)
_LEFT: Colour = (90, 255, 130)
_RIGHT: Colour = (255, 120, 200)


def lay_keypoints(
    draw: ImageDraw.ImageDraw,
    points: Sequence[Sequence[float]],
    skeleton: Skeleton,
    factor: int,
    line: int,
    *,
    is_true: bool,
) -> None:
    """Draw the points of one object.

    Args:
        draw: Draws on a picture that is `factor` times as large as the image of the points.
        points: x, y in pixels of the image and score or visibility of each.
        skeleton: What they are.
        factor: Pixels of the picture for one of the image, along each side.
        line: Width of lines, in pixels of the picture.
        is_true: Whether the points have a visibility, not a score.
    """
    colours = _colours(skeleton)
    shown = [known > 0 if is_true else known >= SHOWN_FROM for _, _, known in points]
    places = [(x * factor, y * factor) for x, y, _ in points]
    edge = max(1, line // 2)
    lines = [(a, b) for a, b in skeleton.edges if shown[a] and shown[b]]
    for first, second in lines:
        draw.line((*places[first], *places[second]), _DARK, line + 2 * edge)
    for first, second in lines:
        # A line from the left to the right side belongs to neither.
        colour = colours[first] if colours[first] == colours[second] else _MIDDLE
        draw.line((*places[first], *places[second]), colour, line)
    radius = 1.5 * line
    for (x, y), (_, _, known), is_shown, colour in zip(places, points, shown, colours, strict=True):
        if is_shown:
            _disc(draw, x, y, radius + edge, _DARK)
            _disc(draw, x, y, radius, colour)
            if is_true and known == HIDDEN:
                _disc(draw, x, y, radius / 2, _DARK)


def _colours(skeleton: Skeleton) -> list[Colour]:
    colours = [_MIDDLE] * len(skeleton)
    for left, right in skeleton.pairs:
        colours[left], colours[right] = _LEFT, _RIGHT
    return colours


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: Colour) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
