"""How long a run is for the images of its steps, and what it says of that when it begins."""

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from ziggurat.config.checks import require
from ziggurat.config.tree import TrainConfig, TrainerConfig
from ziggurat.engine.data import RunData, training_loader


def with_scaled_steps(config: TrainConfig, data: RunData, world_size: int) -> TrainConfig:
    """Return the run with as many steps as its images take, where it asks for that.

    Args:
        config: The run as it was given; `schedule.scale_steps` says whether.
        data: Its data.
        world_size: Number of processes.
    """
    if not config.schedule.scale_steps:
        return config
    loader = training_loader(data, config, rank=0, world_size=world_size)
    accumulate = min(config.trainer.accumulate, len(loader))  # an epoch ends with a step
    return scale_steps(config, config.data.batch_size * world_size * accumulate)


def scale_steps(config: TrainConfig, images_per_step: int) -> TrainConfig:
    """Return the run with steps that see as many images as those of its reference batch.

    So does Detectron, which leaves the warm-up as it is.

    Args:
        config: The run as it was given.
        images_per_step: Images of an optimizer step over all devices.
    """
    reference, trainer, schedule = config.optimizer.reference_batch, config.trainer, config.schedule
    require(
        bool(trainer.max_steps or trainer.val_every_steps or schedule.milestone_steps),
        "schedule.scale_steps",
        True,
        "false where a run counts in epochs, which see as many images with any batch",
    )
    require(
        reference is not None,
        "schedule.scale_steps",
        True,
        "false where optimizer.reference_batch is null: there is nothing to scale by",
    )
    assert reference is not None
    scaled = _Steps.of(config).times(reference / images_per_step)
    return replace(
        config,
        trainer=replace(
            trainer, max_steps=scaled.max_steps, val_every_steps=scaled.val_every_steps
        ),
        schedule=replace(schedule, milestone_steps=scaled.milestone_steps),
    )


class _Steps(NamedTuple):
    """What a run counts in optimizer steps, but for its warm-up."""

    max_steps: int | None
    milestone_steps: tuple[int, ...]
    val_every_steps: int | None

    @classmethod
    def of(cls, config: TrainConfig) -> "_Steps":
        trainer, schedule = config.trainer, config.schedule
        return cls(trainer.max_steps, schedule.milestone_steps, trainer.val_every_steps)

    def times(self, factor: float) -> "_Steps":
        most, every = (
            None if number is None else max(1, round(factor * number))
            for number in (self.max_steps, self.val_every_steps)
        )
        return _Steps(most, tuple(round(factor * step) for step in self.milestone_steps), every)

    def __str__(self) -> str:
        numbers = {
            "trainer.max_steps": self.max_steps,
            "schedule.milestone_steps": [*self.milestone_steps] or None,
            "trainer.val_every_steps": self.val_every_steps,
        }
        return ", ".join(f"{name} {value}" for name, value in numbers.items() if value is not None)


def as_many_images(config: TrainConfig, images_per_step: int) -> str | None:
    """Say how many steps see as many images as the recipe means; None where these do.

    The learning rate follows the images of a step by itself. Steps do so where a run asks for it:
    who asks for a number of them shall get it.

    Args:
        config: A run as it was given, with the steps of its recipe.
        images_per_step: Images of an optimizer step over all devices.
    """
    reference, steps = config.optimizer.reference_batch, config.trainer.max_steps
    if reference is None or steps is None or config.trainer.max_epochs is not None:
        return None
    if images_per_step == reference or config.schedule.scale_steps:
        return None
    needed = _Steps.of(config).times(reference / images_per_step)
    return (
        f"{steps} steps of {images_per_step} images see {steps * images_per_step} images; as many "
        f"as {steps} steps of {reference} take {needed}, which schedule.scale_steps true sets"
    )


def what_was_scaled(given: TrainConfig, taken: TrainConfig) -> str | None:
    """Say which steps a run takes instead of those that it was given; None where these stay.

    Args:
        given: The run as it was given.
        taken: The same with its steps scaled.
    """
    if given == taken:
        return None
    return (
        f"schedule.scale_steps: {_Steps.of(given)}, meant for {given.optimizer.reference_batch} "
        f"images a step, become {_Steps.of(taken)}"
    )


def unreached_limit(
    wanted: TrainerConfig, steps_per_epoch: int, given: Collection[str]
) -> str | None:
    """Say which limit that a user has set is not reached because of the other; None if none is.

    Args:
        wanted: Limits of the run in epochs and in steps.
        steps_per_epoch: Optimizer steps of an epoch.
        given: Fields that the user has set, as "trainer.max_steps".
    """
    epochs, steps = wanted.max_epochs, wanted.max_steps
    if epochs is None or steps is None:
        return None
    if steps > epochs * steps_per_epoch and "trainer.max_steps" in given:
        return (
            f"trainer.max_steps {steps} is not reached: trainer.max_epochs {epochs} ends the run "
            f"after {epochs * steps_per_epoch} steps; set trainer.max_epochs null to take all"
        )
    if steps < epochs * steps_per_epoch and "trainer.max_epochs" in given:
        return (
            f"trainer.max_epochs {epochs} is not reached: trainer.max_steps {steps} ends the run "
            f"in epoch {-(-steps // steps_per_epoch)}; set trainer.max_steps null to take all"
        )
    return None
