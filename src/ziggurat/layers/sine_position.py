"""Sine encoding of the position in a map (Carion et al., arXiv:2005.12872, appendix A.4).

Shapes: B images, C channels, h x w map.
"""

from math import pi

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TEMPERATURE = 10000
EPSILON = 1e-6


def sine_position(valid: Bool[Tensor, "B h w"], channels: int) -> Float[Tensor, "B C h w"]:
    """Encode y in the first and x in the second half of the channels, sines at even ones.

    Coordinates run from 0 to 2 pi over the valid cells, so that padding does not move an image.

    Args:
        valid: Cells that belong to the image, not to its padding.
        channels: Number of channels C, a multiple of 4.
    """
    half = channels // 2
    index = torch.arange(half, device=valid.device, dtype=torch.float32)
    wavelength = TEMPERATURE ** (2 * (index // 2) / half)
    encoded = []
    for axis in (1, 2):
        position = valid.cumsum(dim=axis, dtype=torch.float32)
        position = position / (position.narrow(axis, -1, 1) + EPSILON) * (2 * pi)
        angle = position[..., None] / wavelength
        waves = torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1)
        encoded.append(waves.flatten(3))
    return torch.cat(encoded, dim=3).permute(0, 3, 1, 2)
