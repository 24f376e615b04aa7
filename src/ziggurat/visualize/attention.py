"""Attention drawn on a photo: a picture for each pair of maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from ziggurat.visualize.text import font

PANEL_SIDE = 260
"""Long side of a picture, in pixels."""
GAP = 10
TITLE = 22
BACKGROUND, INK = (255, 255, 255), (30, 30, 30)
DIMMED = 0.45
"""Brightness of the photo where nothing is read."""
SHOWN_ABOVE = 99.5
"""Percentile of the weights that is drawn brightest: a few cells may hold most of the weight."""
READ, SUBTRACTED = np.array([70.0, 35.0, 0.0]), np.array([0.0, 25.0, 90.0])
"""Light of what is added to a pixel, warm, and of what is subtracted, blue."""


@dataclass(frozen=True)
class Panel:
    """Attention of a place.

    Attributes:
        level: Index of the map that the place is of, the row.
        other: Index of the map that is looked at, the column.
        weights: How much is read of each cell; below 0 where it is subtracted.
    """

    level: int
    other: int
    weights: Float[np.ndarray, "h w"]


def draw_attention(
    photo: Image.Image,
    panels: Sequence[Panel],
    place: tuple[float, float],
    strides: Sequence[int],
) -> Image.Image:
    """Draw a grid: bright is what the marked place reads, dark what it does not.

    Weights below 0, as dot products may be, are as bright, in blue; a line below says so.

    Args:
        photo: RGB image.
        panels: What is drawn.
        place: From the left and from the top, as shares of width and height.
        strides: Stride of each map, fine to coarse.
    """
    scale = PANEL_SIDE / max(photo.size)
    width, height = (max(1, round(side * scale)) for side in photo.size)
    small = np.asarray(photo.convert("RGB").resize((width, height)), dtype=np.float32)
    step_x, step_y = width + GAP, height + TITLE + GAP
    grid = Image.new("RGB", (GAP + step_x * len(strides), GAP + step_y * len(strides)), BACKGROUND)
    draw = ImageDraw.Draw(grid)
    if any(panel.weights.min() < 0 for panel in panels):
        # No map looks at a finer one: the first picture of the last row is not there.
        words = (GAP, GAP + step_y * (len(strides) - 1))
        draw.text(words, "blue: weight below 0", fill=INK, font=font(13))
    for panel in panels:
        brightest = np.percentile(np.abs(panel.weights), SHOWN_ABOVE)
        heat = Image.fromarray(panel.weights / max(float(brightest), 1e-12)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        shares = np.asarray(heat).clip(-1, 1)[..., None]
        lit = small * (DIMMED + (1 - DIMMED) * np.abs(shares))
        lit += shares.clip(min=0) * READ - shares.clip(max=0) * SUBTRACTED
        picture = Image.fromarray(lit.clip(0, 255).astype(np.uint8))
        _mark(picture, (place[0] * width, place[1] * height))
        left, top = GAP + step_x * panel.other, GAP + step_y * panel.level
        title = f"stride {strides[panel.level]} looks at stride {strides[panel.other]}"
        draw.text((left, top), title, fill=INK, font=font(13))
        grid.paste(picture, (left, top + TITLE))
    return grid


def _mark(picture: Image.Image, at: tuple[float, float]) -> None:
    x, y = at
    draw = ImageDraw.Draw(picture)
    for radius, colour in ((6, (0, 0, 0)), (5, (255, 255, 255)), (4, (0, 0, 0))):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour)
