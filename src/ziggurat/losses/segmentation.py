"""What a segmenter learns from: a loss of pixels, and losses of whole classes added to it.

The published trainings use the first alone. Dice and Lovász-Softmax make small classes count, a
loss of contours sharpens them, class weights and hard pixels change what a pixel counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.losses.boundary import boundary_loss
from ziggurat.losses.class_maps import ClassLoss, mean_over_classes
from ziggurat.losses.class_masks import mask_cross_entropy, stack_masks
from ziggurat.losses.dice import dice_loss, mask_dice_loss
from ziggurat.losses.hard_pixels import hard_pixels
from ziggurat.losses.lovasz import lovasz_loss
from ziggurat.losses.pixels import Normaliser, pixel_cross_entropy, stack_labels
from ziggurat.types import UNLABELLED, ClassMasks, ImageSize, LabelMap, check_same_length


@dataclass(frozen=True)
class SegmentationLoss:
    """Named losses of a batch, each times its weight.

    Attributes:
        pixels: Weight of the cross entropy of the pixels.
        normaliser: Whether that is divided by the number of all pixels, as published, or of those
            that count.
        class_weights: Factor of each class in it, or None.
        hard_below: Only pixels count whose true class has a lower probability than this; None
            counts all.
        hard_share: Part of the labelled pixels that counts at least, where hard_below is given.
        dice: Weight of the Dice loss.
        lovasz: Weight of the Lovász loss.
        boundary: Weight of the loss of contours.
        boundary_width: Odd side of the square in which contours count as near, in pixels.
        auxiliary: Weight of the cross entropy of an auxiliary head; None as published.
    """

    pixels: float = 1.0
    normaliser: Normaliser = "all"
    class_weights: tuple[float, ...] | None = None
    hard_below: float | None = None
    hard_share: float = 0.0625
    dice: float = 0.0
    lovasz: float = 0.0
    boundary: float = 0.0
    boundary_width: int = 5
    auxiliary: float | None = None

    def check(self, num_classes: int, *, overlapping: bool) -> None:
        """Raise unless the options suit a model.

        Args:
            num_classes: Number of classes K.
            overlapping: Whether its classes may overlap.

        Raises:
            ZigguratError: If they do not.
        """
        weights = self.class_weights
        if weights is not None and len(weights) != num_classes:
            raise ZigguratError(
                f"loss.class_weights has {len(weights)} numbers, but the model has {num_classes} "
                "classes; give one for each"
            )
        if overlapping and self.hard_below is not None:
            raise ZigguratError(
                f"loss.hard_below = {self.hard_below} is for classes that exclude each other, but "
                "the model's classes may overlap; leave it out"
            )
        if not overlapping and num_classes == 1:
            raise ZigguratError(
                "a model with one class has nothing to tell apart: expected two classes "
                "(background and object), or one class that may overlap others"
            )

    def require_entropy(self, *, of: str) -> None:
        """Raise where options of the cross entropy are set, and its weight is 0.

        Args:
            of: Name of a model without an auxiliary head, which would have a cross entropy.

        Raises:
            ZigguratError: If so: they would change nothing.
        """
        options = ("normaliser", "class_weights", "hard_below")
        default = SegmentationLoss()
        unread = [f"loss.{name}" for name in options if vars(self)[name] != vars(default)[name]]
        if unread and not self.pixels:
            raise ZigguratError(
                f"{', '.join(unread)} would change nothing: loss.pixels is 0, and {of} has no "
                "auxiliary head; leave it out, or give loss.pixels a weight"
            )

    def __call__(
        self,
        logits: Float[Tensor, "B K h w"],
        targets: Sequence[LabelMap] | Sequence[ClassMasks],
        *,
        overlapping: bool = False,
        padded_size: ImageSize | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses that have a weight.

        Args:
            logits: Class logits, at any resolution.
            targets: Label maps or masks of the classes, one an image; masks only where classes
                may overlap.
            overlapping: Whether classes may overlap: a sigmoid for each instead of one softmax.
            padded_size: Height and width of the batch; by default those of its largest target.

        Raises:
            TypeError: If targets are masks, but classes exclude each other.
        """
        check_same_length("loss", targets=targets, images=logits)
        self.check(logits.shape[1], overlapping=overlapping)
        if overlapping:
            return self._of_masks(logits, *stack_masks(targets, logits.shape[1], padded_size))
        maps = [target for target in targets if isinstance(target, LabelMap)]
        if len(maps) != len(targets):
            raise TypeError("a model whose classes exclude each other needs label maps")
        labels = stack_labels(maps, padded_size)
        losses = {}
        if self.pixels:
            factors = None
            if self.hard_below is not None:
                factors = hard_pixels(logits, labels, below=self.hard_below, share=self.hard_share)
            losses["pixels"] = self.pixels * pixel_cross_entropy(
                logits,
                labels,
                self._class_weights(logits),
                normaliser=self.normaliser,
                factors=factors,
            )
        if self.dice:
            losses["dice"] = self.dice * dice_loss(logits, labels)
        counted = labels != UNLABELLED
        if self.lovasz or self.boundary:
            truths = [(int(k), labels == k) for k in labels[counted].unique()]
            losses |= self._of_classes(logits, truths, counted, is_exclusive=True)
        return losses

    def of_pixels(self, weight: float) -> "SegmentationLoss":
        """Return the cross entropy alone, with another weight: what an auxiliary head learns from.

        Args:
            weight: Weight of the cross entropy.
        """
        return replace(self, pixels=weight, dice=0.0, lovasz=0.0, boundary=0.0)

    def _of_masks(
        self, logits: Tensor, masks: Bool[Tensor, "B K H W"], counted: Bool[Tensor, "B H W"]
    ) -> dict[str, Tensor]:
        losses = {}
        if self.pixels:
            losses["pixels"] = self.pixels * mask_cross_entropy(
                logits, masks, counted, self._class_weights(logits), normaliser=self.normaliser
            )
        if self.dice:
            losses["dice"] = self.dice * mask_dice_loss(logits, masks, counted)
        if self.lovasz or self.boundary:
            there = (masks & counted[:, None]).flatten(2).any(dim=2).any(dim=0)
            truths = [(k, masks[:, k]) for k in there.nonzero().flatten().tolist()]
            losses |= self._of_classes(logits, truths, counted, is_exclusive=False)
        return losses

    def _of_classes(
        self,
        logits: Tensor,
        truths: Sequence[tuple[int, Tensor]],
        counted: Tensor,
        *,
        is_exclusive: bool,
    ) -> dict[str, Tensor]:
        """Return the losses of single classes that occur in the batch, the mean over them."""
        terms: dict[str, tuple[float, ClassLoss]] = {
            "lovasz": (self.lovasz, lovasz_loss),
            "boundary": (self.boundary, partial(boundary_loss, width=self.boundary_width)),
        }
        return {
            name: weight
            * mean_over_classes(logits, truths, counted, term, is_exclusive=is_exclusive)
            for name, (weight, term) in terms.items()
            if weight
        }

    def _class_weights(self, logits: Tensor) -> Tensor | None:
        if self.class_weights is None:
            return None
        return torch.tensor(self.class_weights, device=logits.device)
