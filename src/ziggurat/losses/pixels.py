"""Losses of label maps: every pixel is an example, except those that nobody labelled."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from ziggurat.types import LabelMap

IGNORED_LABEL = 255
"""Label of pixels that do not count."""


def pixel_cross_entropy(
    logits: Float[Tensor, "B K h w"],
    labels: Integer[Tensor, "B H W"],
    class_weights: Float[Tensor, " K"] | None = None,
) -> Float[Tensor, ""]:
    """Return the cross entropy of the pixels, divided by the number of all pixels.

    Ignored pixels add nothing and yet count in the division, as in the published trainings;
    PyTorch's own mean divides by the others only. A batch without labels has the loss zero.

    Args:
        logits: Class logits, resized bilinearly to the labels.
        labels: Class of each pixel, or 255 where it does not count.
        class_weights: Factor of each class.
    """
    size = (labels.shape[1], labels.shape[2])
    if logits.shape[2:] != size:
        logits = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
    total = F.cross_entropy(
        logits.float(),
        labels.long(),
        weight=class_weights,
        ignore_index=IGNORED_LABEL,
        reduction="sum",
    )
    return total / labels.numel()


def stack_labels(maps: Sequence[LabelMap]) -> Integer[Tensor, "B H W"]:
    """Put label maps into one tensor, with ignored pixels at the right and the bottom.

    Args:
        maps: Label maps, one an image, of the sizes of the images.
    """
    height, width = (max(m.labels.shape[side] for m in maps) for side in (0, 1))
    stacked = maps[0].labels.new_full((len(maps), height, width), IGNORED_LABEL)
    for row, found in zip(stacked, maps, strict=True):
        row[: found.labels.shape[0], : found.labels.shape[1]] = found.labels
    return stacked
