"""Cross entropy where classes may overlap: every class of every pixel is a question of its own."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.losses.band_sums import band_sums
from ziggurat.losses.pixels import Normaliser, stack_labels
from ziggurat.types import UNLABELLED, ClassMasks, ImageSize, LabelMap


def mask_cross_entropy(
    logits: Float[Tensor, "B K h w"],
    masks: Bool[Tensor, "B K H W"],
    counted: Bool[Tensor, "B H W"],
    class_weights: Float[Tensor, " K"] | None = None,
    *,
    normaliser: Normaliser = "all",
) -> Float[Tensor, ""]:
    """Return the mean binary cross entropy over pixels and classes.

    A batch without labels has the loss zero.

    Args:
        logits: Class logits, resized bilinearly to the masks.
        masks: Where each class is.
        counted: Pixels that somebody labelled.
        class_weights: Factor of each class; it does not change the division.
        normaliser: Whether all pixels are divided by, or the labelled ones.
    """
    size = (masks.shape[2], masks.shape[3])
    term = partial(_cross_entropy, class_weights=class_weights)
    total = band_sums(logits, size, term, (masks.permute(0, 2, 3, 1), counted))
    pixels: Tensor | int = counted.numel()
    if normaliser == "labelled":
        pixels = counted.count_nonzero().clamp(min=1)
    return total / (pixels * masks.shape[1])


def stack_masks(
    targets: Sequence[ClassMasks] | Sequence[LabelMap],
    num_classes: int,
    size: ImageSize | None = None,
) -> tuple[Bool[Tensor, "B K H W"], Bool[Tensor, "B H W"]]:
    """Put masks into one tensor, and where they count: not in padding, not where unlabelled.

    Args:
        targets: Masks or label maps, one an image; the classes of a label map do not overlap.
        num_classes: Number of classes K.
        size: Height and width of the tensor; by default those of the largest image.

    Raises:
        ZigguratError: If an image has masks of another number of classes.
    """
    maps = [target for target in targets if isinstance(target, LabelMap)]
    if maps:
        labels = stack_labels(maps, size)
        classes = torch.arange(num_classes, device=labels.device)
        return labels[:, None] == classes[:, None, None], labels != UNLABELLED
    images = [target for target in targets if isinstance(target, ClassMasks)]
    height, width = size or (max(image.ignored.shape[side] for image in images) for side in (0, 1))
    masks = images[0].masks.new_zeros((len(images), num_classes, height, width))
    counted = masks.new_zeros((len(images), height, width))
    for index, image in enumerate(images):
        if len(image.masks) != num_classes:
            raise ZigguratError(
                f"the model has {num_classes} classes, but there are masks of {len(image.masks)}; "
                "build it with as many as the data have"
            )
        rows, columns = image.ignored.shape
        masks[index, :, :rows, :columns] = image.masks
        counted[index, :rows, :columns] = ~image.ignored
    return masks, counted


def _cross_entropy(
    values: Float[Tensor, "R W K"],
    masks: Bool[Tensor, "R W K"],
    counted: Bool[Tensor, "R W"],
    *,
    class_weights: Float[Tensor, " K"] | None,
) -> Float[Tensor, ""]:
    weights = counted[..., None].to(values.dtype)
    if class_weights is not None:
        weights = weights * class_weights.to(values)
    return F.binary_cross_entropy_with_logits(
        values, masks.to(values.dtype), weights, reduction="sum"
    )
