"""From coarse logits to the class of every pixel."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ziggurat.types import ImageSize, LabelMap


def label_map(
    logits: Float[Tensor, "K h w"],
    padded_size: ImageSize,
    image_size: ImageSize,
    original_size: ImageSize,
) -> LabelMap:
    """Resize logits to the input, cut the padding off, resize to the original, take the best class.

    Args:
        logits: Class logits of one image at the resolution of the head.
        padded_size: Height and width of the network's input.
        image_size: The part of it that is image.
        original_size: Height and width of the result.
    """
    x = _resize(logits[None].float(), padded_size)[:, :, : image_size[0], : image_size[1]]
    x = _resize(x, original_size)
    return LabelMap(x[0].argmax(dim=0).to(torch.int16))


def _resize(x: Float[Tensor, "1 K h w"], size: ImageSize) -> Float[Tensor, "1 K H W"]:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
