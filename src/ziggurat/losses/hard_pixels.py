"""Online hard example mining (Shrivastava et al., CVPR 2016, arXiv:1604.03540), for pixels.

Most pixels of an image are sky or road that the model knows since long. Only those that it is not
sure of count, and always a share of all, so that a good model goes on learning from its worst.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from ziggurat.losses.pixels import pixel_losses
from ziggurat.types import UNLABELLED


def hard_pixels(
    logits: Float[Tensor, "B K h w"],
    labels: Integer[Tensor, "B H W"],
    *,
    below: float,
    share: float,
) -> Float[Tensor, "B H W"]:
    """Return 1 for the pixels of a batch that count, else 0.

    MMSegmentation counts the pixels that are kept at least (100000 an image); a share of what is
    labelled means the same at every size of image.

    Args:
        logits: Class logits, resized bilinearly to the labels.
        labels: Class of each pixel, or 255 where it does not count.
        below: A pixel is hard if its true class has a lower probability than this.
        share: Part of the labelled pixels that counts at least, the hardest first.
    """
    counted = labels != UNLABELLED
    losses = pixel_losses(logits, labels)
    hard = losses > -torch.log(losses.new_tensor(below))
    known = losses[counted]
    kept = round(share * len(known))
    if kept:
        hard |= losses >= known.kthvalue(len(known) - kept + 1).values
    return (hard & counted).float()
