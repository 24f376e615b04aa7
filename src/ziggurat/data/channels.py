"""From levels 0..255 to the numbers that a model was trained on."""

import numpy as np
from jaxtyping import Float, UInt8

from ziggurat.preprocessing import FitAligned, FitInside


def normalize_levels(
    pixels: UInt8[np.ndarray, "H W 3"], preprocessing: FitInside | FitAligned
) -> Float[np.ndarray, "H W 3"]:
    """Subtract the mean and divide by the standard deviation, channels in the model's order.

    Args:
        pixels: RGB levels.
        preprocessing: Gives mean, standard deviation and order.
    """
    mean = np.asarray(preprocessing.mean, dtype=np.float64) * 255
    std = np.asarray(preprocessing.std, dtype=np.float64) * 255
    if preprocessing.channel_order == "bgr":
        pixels, mean, std = pixels[..., ::-1], mean[::-1], std[::-1]
    values = pixels.astype(np.float32, order="C")
    rows = values.reshape(len(values), -1)  # numpy is slow where the last axis has three entries
    rows -= np.tile(mean.astype(np.float32), values.shape[1])
    rows *= np.tile((1 / std).astype(np.float32), values.shape[1])
    return values
