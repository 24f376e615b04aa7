"""Where the pixels of a resized image come from, without interpolation."""

import numpy as np
from jaxtyping import Int64


def nearest_positions(old: int, new: int) -> Int64[np.ndarray, " n"]:
    """Return the source of every pixel along a side, as OpenCV's INTER_NEAREST has it.

    Args:
        old: Pixels of the side.
        new: Pixels of the resized side.
    """
    step = 1.0 / (new / old)  # in this order: OpenCV inverts the rounded inverse
    return np.minimum(np.floor(np.arange(new) * step).astype(np.int64), old - 1)
