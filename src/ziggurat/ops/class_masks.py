"""From coarse logits to a mask of each class, where classes may overlap.

A class is where its probability, the sigmoid of its logit, is at least one half. Bilinear values
lie between those of the cells around, so a class with no logit of 0 or more is nowhere.

Shapes: K classes, h x w cells of the head, H x W pixels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ziggurat.types import ClassMasks, ImageSize


def class_masks(
    logits: Float[Tensor, "K h w"],
    padded_size: ImageSize,
    image_size: ImageSize,
    original_size: ImageSize,
) -> ClassMasks:
    """Resize logits to the input, cut padding off, resize to the original, keep what is likely.

    Args:
        logits: Class logits of one image at the resolution of the head.
        padded_size: Height and width of the network's input.
        image_size: The part of it that is image.
        original_size: Height and width of the result.
    """
    masks = torch.zeros((len(logits), *original_size), dtype=torch.bool, device=logits.device)
    for cells, mask in zip(logits.float(), masks, strict=True):
        if cells.max() < 0:
            continue
        values = _resize(cells, padded_size)[: image_size[0], : image_size[1]]
        torch.ge(_resize(values, original_size), 0, out=mask)
    ignored = torch.zeros(original_size, dtype=torch.bool, device=logits.device)
    return ClassMasks(masks, ignored)


def _resize(x: Float[Tensor, "h w"], size: ImageSize) -> Float[Tensor, "H W"]:
    return F.interpolate(x[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
