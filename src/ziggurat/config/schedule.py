"""How the learning rate changes over a run."""

from dataclasses import dataclass
from typing import Literal

from ziggurat.config.checks import (
    require,
    require_all,
    require_counts,
    require_fractions,
    require_positive,
)


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the run: a linear warm-up, then a cosine, steps or a polynomial."""

    kind: Literal["cosine", "step", "poly"] = "cosine"
    """Half a cosine down to min_lr, a multiplication by gamma at each milestone, or a power of the
    share of steps that is left, down to min_lr."""
    warmup_epochs: float = 0.0
    """Length of the warm-up in epochs; a tenth of the run if that is no longer."""
    warmup_steps: int = 0
    """Length of the warm-up in optimizer steps, instead of warmup_epochs; shortened like it."""
    warmup_start: float | None = None
    """Factor of the learning rate at the first step of the warm-up; null for 0.001."""
    min_lr: float = 0.0
    """Learning rate at the end of a cosine or polynomial, scaled as lr is."""
    milestones: tuple[int, ...] = ()
    """Epochs after which the learning rate is multiplied by gamma."""
    milestone_steps: tuple[int, ...] = ()
    """Optimizer steps after which it is multiplied by gamma, instead of milestones."""
    gamma: float | None = None
    """Factor of the learning rate at each milestone; null for 0.1."""
    power: float | None = None
    """Exponent of a polynomial; null for 1, a straight line."""
    warmup_mode: Literal["replaces", "multiplies", "precedes"] | None = None
    """Whether the warm-up takes the place of a curve that runs from step 0, multiplies that curve,
    or the curve begins where it ends; null multiplies a polynomial and replaces a cosine."""
    update: Literal["step", "epoch", "epoch_end"] = "step"
    """Whether it changes every step, or once an epoch: to the value of the epoch before, or to that
    of the epoch's end."""
    scale_steps: bool = False
    """Whether trainer.max_steps, trainer.val_every_steps and milestone_steps are meant for
    optimizer.reference_batch images a step, and multiplied so that as many images are seen."""
    follow_clock: bool = False
    """Whether it hurries on where steps are too slow for trainer.max_minutes, so that a run that is
    stopped by that limit has seen its end, too; such a run cannot be repeated bit by bit."""

    def __post_init__(self) -> None:
        require(self.warmup_epochs >= 0, "schedule.warmup_epochs", self.warmup_epochs, "at least 0")
        require_counts("schedule", 0, warmup_steps=self.warmup_steps)
        require_fractions("schedule", warmup_start=self.warmup_start, gamma=self.gamma)
        require(self.min_lr >= 0, "schedule.min_lr", self.min_lr, "at least 0")
        require_positive("schedule", power=self.power)
        for name, given in (
            ("milestones", self.milestones),
            ("milestone_steps", self.milestone_steps),
        ):
            require(
                tuple(sorted(set(given))) == given and all(number > 0 for number in given),
                f"schedule.{name}",
                given,
                f"rising {'epochs' if name == 'milestones' else 'steps'} above 0",
            )
        self._require_agreement()

    def _require_agreement(self) -> None:
        is_step, has_milestones = self.kind == "step", bool(self.milestones or self.milestone_steps)
        has_warmup = self.warmup_epochs > 0 or self.warmup_steps > 0
        no_steps = (
            f"0 where schedule.warmup_epochs = {self.warmup_epochs} is given"
            if self.warmup_epochs > 0
            else f"0 where schedule.update is {self.update} (use schedule.warmup_epochs)"
        )
        no_mode = "schedule.kind is step" if is_step else "there is no warm-up"
        require_all(
            (
                self.warmup_steps == 0 or (self.warmup_epochs == 0 and self.update == "step"),
                "schedule.warmup_steps",
                self.warmup_steps,
                no_steps,
            ),
            (
                not is_step or self.min_lr == 0,
                "schedule.min_lr",
                self.min_lr,
                "0 where schedule.kind is step",
            ),
            (
                not (self.milestones and self.milestone_steps),
                "schedule.milestone_steps",
                self.milestone_steps,
                "left out where schedule.milestones are given",
            ),
            (
                not is_step or has_milestones,
                "schedule.milestones",
                self.milestones,
                "given where schedule.kind is step (or schedule.milestone_steps)",
            ),
            (
                is_step or not self.milestones,
                "schedule.milestones",
                self.milestones,
                f"[] where schedule.kind is {self.kind}: only steps have them",
            ),
            (
                is_step or not self.milestone_steps,
                "schedule.milestone_steps",
                self.milestone_steps,
                f"[] where schedule.kind is {self.kind}: only steps have them",
            ),
            (
                is_step or self.gamma is None,
                "schedule.gamma",
                self.gamma,
                f"null where schedule.kind is {self.kind}",
            ),
            (
                self.kind == "poly" or self.power is None,
                "schedule.power",
                self.power,
                f"null where schedule.kind is {self.kind}",
            ),
            (
                has_warmup or self.warmup_start is None,
                "schedule.warmup_start",
                self.warmup_start,
                "null where neither schedule.warmup_epochs nor schedule.warmup_steps is above 0",
            ),
            (
                self.warmup_mode is None or (has_warmup and not is_step),
                "schedule.warmup_mode",
                self.warmup_mode,
                f"null where {no_mode}",
            ),
            (
                self.can_hurry or not self.follow_clock,
                "schedule.follow_clock",
                self.follow_clock,
                f"false where schedule.kind is {self.kind} and schedule.update is {self.update}: "
                "only a cosine or polynomial that changes every step can hurry",
            ),
        )

    @property
    def can_hurry(self) -> bool:
        """Whether there is something between its steps that the clock can choose."""
        return self.kind != "step" and self.update == "step"
