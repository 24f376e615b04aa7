"""Letters for pictures: one typeface everywhere, and names cut to the room there is."""

from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import ImageFont


@lru_cache(maxsize=16)
def font(height: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans in a height in pixels.

    matplotlib brings it along: the same letters on every machine, Greek and Cyrillic too.
    """
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), height)


def shorten(text: str, face: ImageFont.FreeTypeFont, width: int) -> str:
    """Cut a text that is wider than `width` pixels and end it with an ellipsis."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
