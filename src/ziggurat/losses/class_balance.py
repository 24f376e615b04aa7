"""Weights of classes that make rare ones count as much as common ones."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ziggurat.errors import ZigguratError


def median_frequency_weights(
    pixels: Int[Tensor, " K"], pixels_of_images: Int[Tensor, " K"]
) -> Float[Tensor, " K"]:
    """Return median(f) / f of each class, with f = its pixels / all of the images that show it.

    Median frequency balancing (Eigen and Fergus, arXiv:1411.4734, section 6.3.2), as SegNet was
    trained with. A class that no image shows has the weight 1, which nothing multiplies.

    Args:
        pixels: Labelled pixels of each class in the training images.
        pixels_of_images: Labelled pixels, of any class, of the images in which the class occurs.

    Raises:
        ZigguratError: If no pixel is labelled.
    """
    there = pixels > 0
    if not there.any():
        raise ZigguratError(
            "balanced class weights need labelled pixels, but the training images have none; "
            "give loss.class_weights as a list"
        )
    frequency = pixels.double() / pixels_of_images.double().clamp(min=1)
    # The mean of the two middle ones: `median` of torch takes the lower.
    weights = frequency[there].quantile(0.5) / frequency.masked_fill(~there, 1)
    return torch.where(there, weights, 1.0).float()
