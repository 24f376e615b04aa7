"""A map at the size of another one."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ziggurat.ops.traced_sizes import is_known_true


def resize_like(
    x: Float[Tensor, "B C h w"], like: Float[Tensor, "_ _ H W"]
) -> Float[Tensor, "B C H W"]:
    """Resize a map bilinearly to the height and width of another; no copy if it has them already.

    Args:
        x: The map.
        like: Map whose size the result has.
    """
    if all(is_known_true(x.shape[dim] == like.shape[dim]) for dim in (2, 3)):
        return x
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
