"""The learning rate of a step, as a pure function: nothing to save, nothing to restore.

Steps are optimizer steps from 0; the factor multiplies the learning rate of every group.
"""

import math
from dataclasses import dataclass

from ziggurat.config.tree import ScheduleConfig
from ziggurat.errors import ZigguratError


@dataclass(frozen=True)
class Schedule:
    """Factor of the learning rate for every step of a run.

    Attributes:
        config: Kind, warm-up, and what is specific to the kind.
        lr: Learning rate that the factor multiplies; `min_lr` is relative to it.
        total_steps: Steps of the whole run.
        steps_per_epoch: Steps of an epoch.
    """

    config: ScheduleConfig
    lr: float
    total_steps: int
    steps_per_epoch: int

    def __post_init__(self) -> None:
        if self.config.min_lr > self.lr:
            raise ZigguratError(
                f"schedule.min_lr must be at most optimizer.lr = {self.lr:g}, "
                f"got {self.config.min_lr:g}"
            )

    @property
    def wanted_warmup_steps(self) -> float:
        """Length of the warm-up in steps, as the configuration has it."""
        return float(self.config.warmup_steps or self.config.warmup_epochs * self.steps_per_epoch)

    @property
    def warmup_steps(self) -> float:
        """Length of the warm-up in steps: a tenth of a run that would be no longer than it."""
        wanted = self.wanted_warmup_steps
        return wanted if wanted < self.total_steps else float(self.total_steps // 10)

    @property
    def shortening(self) -> str | None:
        """What to tell the user where the warm-up is shorter than configured, or None."""
        wanted = self.wanted_warmup_steps
        if self.warmup_steps == wanted:
            return None
        return (
            f"warm-up shortened from {wanted:g} to {self.warmup_steps:g} steps: "
            f"the run has {self.total_steps}"
        )

    def factor(self, step: int) -> float:
        """Return the factor of a step.

        Args:
            step: Optimizer steps done before.
        """
        position = float(step)
        if self.config.update == "epoch":
            # The official classification code steps its scheduler after an epoch with the number
            # of that epoch: epochs 0 and 1 both run at the start of the warm-up, and every later
            # one at the value of the epoch before.
            position = float(max(step // self.steps_per_epoch - 1, 0) * self.steps_per_epoch)
        if self.config.kind == "poly":
            return self._poly(position) * self._warmup(position)
        if position < self.warmup_steps:
            return self._warmup(position)
        return self._cosine(position) if self.config.kind == "cosine" else self._steps(position)

    def _warmup(self, position: float) -> float:
        if position >= self.warmup_steps:
            return 1.0
        start = 0.001 if self.config.warmup_start is None else self.config.warmup_start
        return start + (1.0 - start) * position / self.warmup_steps

    def _cosine(self, position: float) -> float:
        # Measured from step 0 and not from the end of the warm-up, as officially (timm).
        low = self.config.min_lr / self.lr
        progress = min(position / self.total_steps, 1.0)
        return low + 0.5 * (1.0 - low) * (1.0 + math.cos(math.pi * progress))

    def _poly(self, position: float) -> float:
        # It falls from step 0 on, and the warm-up multiplies it, as in MMSegmentation.
        low = self.config.min_lr / self.lr
        power = 1.0 if self.config.power is None else self.config.power
        left = max(1.0 - position / self.total_steps, 0.0)
        return float(low + (1.0 - low) * left**power)

    def _steps(self, position: float) -> float:
        passed = sum(position >= epoch * self.steps_per_epoch for epoch in self.config.milestones)
        passed += sum(position >= step for step in self.config.milestone_steps)
        gamma = 0.1 if self.config.gamma is None else self.config.gamma
        return float(gamma**passed)
