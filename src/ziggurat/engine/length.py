"""What a run says of its length when it begins."""

from collections.abc import Collection

from ziggurat.config.tree import TrainConfig, TrainerConfig


def as_many_images(config: TrainConfig, images_per_step: int) -> str | None:
    """Say how many steps see as many images as the recipe means; None where these do.

    The learning rate follows the images of a step by itself. Steps do not: who asks for a number
    of them shall get it.

    Args:
        config: A run with the steps of its recipe.
        images_per_step: Images of an optimizer step over all devices.
    """
    reference, steps = config.optimizer.reference_batch, config.trainer.max_steps
    if reference is None or steps is None or config.trainer.max_epochs is not None:
        return None
    if images_per_step == reference:
        return None
    factor = reference / images_per_step
    options = f"trainer.max_steps {round(factor * steps)}"
    if config.schedule.milestone_steps:
        milestones = [round(factor * step) for step in config.schedule.milestone_steps]
        options += f" and schedule.milestone_steps {milestones}"
    return (
        f"{steps} steps of {images_per_step} images see {steps * images_per_step} images; as many "
        f"as {steps} steps of {reference} take {options}"
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
