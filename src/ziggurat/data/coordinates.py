"""What counts as a number of pixels in an annotation file."""

from typing import TypeGuard

_TOO_FAR = 1e8
"""No point is so many pixels away; NaN and infinity are not below it either."""


def is_coordinate(value: object) -> TypeGuard[int | float]:
    """Tell a number that can be a place or a length in pixels; JSON's true and false are none."""
    return type(value) in (int, float) and abs(value) < _TOO_FAR  # type: ignore[arg-type]
