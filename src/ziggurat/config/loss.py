"""What a segmenter is trained to lower: the published loss, and what changes or adds to it."""

from dataclasses import dataclass
from typing import Literal

from ziggurat.config.checks import require, require_default, require_fractions


@dataclass(frozen=True)
class LossConfig:
    """Losses of a segmenter, added up; the default is the published one."""

    pixels: float = 1.0
    """Weight of the cross entropy of the pixels; 0 leaves it out."""
    normaliser: Literal["all", "labelled"] = "all"
    """What the cross entropy is divided by: the number of all pixels, as published, or of those
    that count."""
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    """Factor of each class in the cross entropy; balanced makes rare classes of the training data
    count as much as common ones; null weighs all alike."""
    hard_below: float | None = None
    """Only pixels count whose true class has a lower probability than this; null counts all."""
    hard_share: float = 0.0625
    """Part of the labelled pixels that counts at least; for loss.hard_below."""
    dice: float = 0.0
    """Weight of the Dice loss; 0 leaves it out."""
    lovasz: float = 0.0
    """Weight of the Lovász loss; 0 leaves it out."""
    boundary: float = 0.0
    """Weight of the loss of contours; 0 leaves it out."""
    boundary_width: int = 5
    """Side of the square in which two contours count as near each other, in pixels, odd; for
    loss.boundary."""
    auxiliary: float | None = None
    """Weight of the cross entropy of an auxiliary head, which UPerNet has and model.auxiliary_head
    gives to others; null for the published 0.4, 0 leaves the head out of the training."""

    def __post_init__(self) -> None:
        weights = {name: getattr(self, name) for name in ("pixels", "dice", "lovasz", "boundary")}
        for name, weight in weights.items():
            require(weight >= 0, f"loss.{name}", weight, "at least 0")
        require(any(weights.values()), "loss.pixels", self.pixels, "above 0 where no other loss is")
        auxiliary = self.auxiliary
        require(auxiliary is None or auxiliary >= 0, "loss.auxiliary", auxiliary, "at least 0")
        require_fractions("loss", hard_share=self.hard_share)
        below = self.hard_below
        require(below is None or 0 < below <= 1, "loss.hard_below", below, "above 0, at most 1")
        width = self.boundary_width
        require(width >= 1 and width % 2 == 1, "loss.boundary_width", width, "odd, at least 1")
        factors = self.class_weights
        if factors is not None and factors != "balanced":
            require(
                len(factors) > 0 and min(factors) >= 0 and max(factors) > 0,
                "loss.class_weights",
                factors,
                "a list of numbers of at least 0, not all 0",
            )
        has_entropy = self.pixels > 0 or auxiliary != 0  # an auxiliary head has one, too
        for name, value in (("class_weights", factors), ("hard_below", below)):
            require(
                value is None or has_entropy,
                f"loss.{name}",
                value,
                "null where loss.pixels and loss.auxiliary are 0: it changes cross entropies alone",
            )
        for name, is_read, otherwise in (
            ("normaliser", has_entropy, "loss.pixels and loss.auxiliary are 0"),
            ("hard_share", below is not None, "loss.hard_below is null"),
            ("boundary_width", self.boundary > 0, "loss.boundary is 0"),
        ):
            require_default(self, f"loss.{name}", is_read=is_read, otherwise=otherwise)
