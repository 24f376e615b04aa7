"""The learning rate of a step, as a pure function: nothing to save, nothing to restore.

Steps are optimizer steps from 0; the factor multiplies the learning rate of every group.
"""

import math
from dataclasses import dataclass

from ziggurat.config.schedule import ScheduleConfig
from ziggurat.config.tree import TrainConfig
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

    def factor(self, step: int | float) -> float:
        """Return the factor of a step.

        Args:
            step: Optimizer steps done before; a part of one where the schedule follows the clock.
        """
        position = self._position(step)
        warms_up = position < self.warmup_steps
        if self._warmup_mode == "multiplies":
            return self._curve(position) * (self._warmup(position) if warms_up else 1.0)
        return self._warmup(position) if warms_up else self._curve(position)

    @property
    def _warmup_mode(self) -> str:
        # As in timm, whose cosines these are, and in MMSegmentation, whose polynomials.
        usual = "multiplies" if self.config.kind == "poly" else "replaces"
        return self.config.warmup_mode or usual

    def keep_pace(self, step: int, first_step: int, share_of_time: float) -> float:
        """Return the step whose factor a step takes in a run that must end in time.

        Args:
            step: Optimizer steps done before.
            first_step: Steps that were done when the time began to run.
            share_of_time: Share of the time that is over.
        """
        by_clock = first_step + (self.total_steps - first_step) * min(share_of_time, 1.0)
        return max(float(step), by_clock)

    def _position(self, step: int | float) -> float:
        """Return the step whose value a step takes."""
        epoch = step // self.steps_per_epoch
        if self.config.update == "epoch":
            # The official classification code steps its scheduler after an epoch with the number
            # of that epoch: epochs 0 and 1 both run at the start of the warm-up, and every later
            # one at the value of the epoch before.
            return float(max(epoch - 1, 0) * self.steps_per_epoch)
        if self.config.update == "epoch_end":
            # Paddle's schedulers take a step when they are made: the first epoch has the value 1.
            return float((epoch + 1) * self.steps_per_epoch)
        return float(step)

    def _warmup(self, position: float) -> float:
        start = 0.001 if self.config.warmup_start is None else self.config.warmup_start
        return start + (1.0 - start) * position / self.warmup_steps

    def _curve(self, position: float) -> float:
        """Return the factor without a warm-up."""
        if self.config.kind == "step":
            return self._steps(position)
        # Measured from step 0 and not from the end of the warm-up, except where that precedes it.
        begin = self.warmup_steps if self._warmup_mode == "precedes" else 0.0
        progress = min((position - begin) / (self.total_steps - begin), 1.0)
        low = self.config.min_lr / self.lr
        if self.config.kind == "cosine":
            return low + 0.5 * (1.0 - low) * (1.0 + math.cos(math.pi * progress))
        power = 1.0 if self.config.power is None else self.config.power
        return float(low + (1.0 - low) * (1.0 - progress) ** power)

    def _steps(self, position: float) -> float:
        passed = sum(position >= epoch * self.steps_per_epoch for epoch in self.config.milestones)
        passed += sum(position >= step for step in self.config.milestone_steps)
        gamma = 0.1 if self.config.gamma is None else self.config.gamma
        return float(gamma**passed)


def build_schedule(config: TrainConfig, num_batches: int) -> Schedule:
    """Build the schedule of a run, which knows the steps of an epoch and of the whole.

    Args:
        config: The run.
        num_batches: Batches of an epoch on each device.
    """
    steps_per_epoch = -(-num_batches // config.trainer.accumulate)  # the last may have fewer
    total_steps = config.trainer.total_steps(steps_per_epoch)
    return Schedule(config.schedule, config.optimizer.lr, total_steps, steps_per_epoch)
