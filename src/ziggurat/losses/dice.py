"""Dice loss (Milletari et al., V-Net, arXiv:1606.04797): a small class counts as much as a large.

The overlap of a class with its truth is divided by the size of both, so how much of the image a
class fills does not matter.
"""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from ziggurat.losses.band_sums import band_sums
from ziggurat.types import UNLABELLED


def dice_loss(
    logits: Float[Tensor, "B K h w"], labels: Integer[Tensor, "B H W"]
) -> Float[Tensor, ""]:
    """Return the mean of 1 - 2 sum(p g) / (sum(p^2) + sum(g^2)) over the classes that are there.

    Equation of section 3, over the labelled pixels of the batch; a class without a true pixel is
    left out, since its overlap is 0 whatever is predicted.

    Args:
        logits: Class logits, resized bilinearly to the labels.
        labels: Class of each pixel, or 255 where it does not count.
    """
    sums = band_sums(logits, (labels.shape[1], labels.shape[2]), _exclusive_sums, (labels,))
    return _mean_dice(sums)


def mask_dice_loss(
    logits: Float[Tensor, "B K h w"],
    masks: Bool[Tensor, "B K H W"],
    counted: Bool[Tensor, "B H W"],
) -> Float[Tensor, ""]:
    """Return the same for classes that may overlap, with p the sigmoid of each logit.

    Args:
        logits: Class logits, resized bilinearly to the masks.
        masks: Where each class is.
        counted: Pixels that somebody labelled.
    """
    size = (masks.shape[2], masks.shape[3])
    return _mean_dice(band_sums(logits, size, _mask_sums, (masks.permute(0, 2, 3, 1), counted)))


def _exclusive_sums(
    values: Float[Tensor, "R W K"], labels: Integer[Tensor, "R W"]
) -> Float[Tensor, "3 K"]:
    """Return overlap, predicted size and true size of each class."""
    counted = labels != UNLABELLED
    known = labels.masked_fill(~counted, 0).long()
    p = values.softmax(dim=2) * counted[..., None]
    own = p.gather(2, known[..., None]).flatten()
    overlap = p.new_zeros(p.shape[2]).scatter_add(0, known.flatten(), own)
    size = torch.zeros_like(overlap).scatter_add(0, known.flatten(), counted.flatten().to(p.dtype))
    return torch.stack([overlap, p.square().sum((0, 1)), size])


def _mask_sums(
    values: Float[Tensor, "R W K"], masks: Bool[Tensor, "R W K"], counted: Bool[Tensor, "R W"]
) -> Float[Tensor, "3 K"]:
    p = values.sigmoid() * counted[..., None]
    true = (masks & counted[..., None]).to(p.dtype)
    return torch.stack([(p * true).sum((0, 1)), p.square().sum((0, 1)), true.sum((0, 1))])


def _mean_dice(sums: Float[Tensor, "3 K"]) -> Float[Tensor, ""]:
    overlap, predicted, true = sums
    there = true > 0
    # Where nothing is true the fraction is 0 / 1, not 0 / 0, and is left out.
    dice = 2 * overlap / (predicted + true).masked_fill(~there, 1)
    mean: Tensor = ((1 - dice) * there).sum() / there.sum().clamp(min=1)
    return mean
