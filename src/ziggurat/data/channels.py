"""From levels 0..255 to the numbers that a model was trained on."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ziggurat.preprocessing import FitAligned, FitInside


def normalize(
    pixels: UInt8[np.ndarray, "H W 3"], preprocessing: FitInside | FitAligned
) -> Float[Tensor, "3 H W"]:
    """Subtract the mean and divide by the standard deviation; channels_last memory.

    Args:
        pixels: RGB levels 0..255.
        preprocessing: Gives mean, standard deviation and order of the channels.
    """
    return torch.from_numpy(normalize_levels(pixels, preprocessing)).permute(2, 0, 1)


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
