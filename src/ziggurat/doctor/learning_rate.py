"""Learning rate against batch, by the recipe's own rule; and a schedule that fits the run."""

from ziggurat.config.tree import TrainConfig
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.subject import Subject
from ziggurat.engine.optimizer import scaled_lr

CHECK = "learning rate"
DOUBTFUL, WRONG = 2.5, 8.0
"""Factors away from the recipe's learning rate; published runs differ by less than the first."""
FAR = 8.0
"""With AdamW the rule holds for batches less than this many times as large or small."""
HIGHEST = {"adamw": 4e-3, "sgd": 0.5}
"""Above this no published run learns, whatever its batch."""


def check_learning_rate(subject: Subject, clock: Clock) -> list[Finding]:
    """Hold the learning rate of a step against what the recipe has for as many images."""
    del clock  # it takes no time
    optimizer, images = subject.config.optimizer, subject.images_per_step
    lr = scaled_lr(optimizer, images)
    trainer = subject.config.trainer
    evidence = (
        f"{lr:.2g} ({optimizer.kind}) at {images} images a step ({subject.world_size} x "
        f"{subject.config.data.batch_size} x {trainer.accumulate}: devices, batch, accumulation)"
    )
    return [_against_recipe(subject, lr, evidence), *_schedule(subject)]


def _against_recipe(subject: Subject, lr: float, evidence: str) -> Finding:
    ours, published = subject.config.optimizer, subject.published
    if published is None or published.optimizer.kind != ours.kind:
        if lr <= HIGHEST[ours.kind]:
            return Finding(CHECK, "ok", evidence)
        return Finding(
            CHECK,
            "error",
            f"{evidence}, above {HIGHEST[ours.kind]:g}",
            "lower optimizer.lr, or set optimizer.reference_batch to the images a step that it is "
            "meant for",
        )
    low, high, is_far = _expected(published, subject.images_per_step)
    wanted = f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"
    evidence += f"; {subject.recipe} has {wanted} for as many"
    ratio = lr / high if lr > high else lr / low if lr < low else 1.0
    if 1 / DOUBTFUL <= ratio <= DOUBTFUL:
        return Finding(CHECK, "ok", evidence)
    evidence += f": {ratio if ratio > 1 else 1 / ratio:.3g} times as "
    evidence += "high" if ratio > 1 else "low"
    if is_far:
        return Finding(
            CHECK,
            "error" if lr > HIGHEST[ours.kind] else "warning",
            f"{evidence}, at a batch far from the recipe's",
            f"try an optimizer.lr from {low:.2g} to {high:.2g} with optimizer.reference_batch "
            "null, or be sure that you want another one",
        )
    rule = published.optimizer
    return Finding(
        CHECK,
        "error" if ratio > WRONG or ratio < 1 / WRONG else "warning",
        evidence,
        f"set optimizer.lr {rule.lr:g} and optimizer.reference_batch "
        f"{'null' if rule.reference_batch is None else rule.reference_batch}, which scales it "
        "with the batch, or be sure that you want another one",
    )


def _expected(published: TrainConfig, images: int) -> tuple[float, float, bool]:
    """Return the lowest and the highest learning rate of a recipe for a number of images a step.

    Near the recipe's own batch, and with SGD, both are what its rule says. Far from it with AdamW
    the rule is no evidence, and anything between scaling in proportion and not scaling at all may
    be right: the recipes for small data sets have at 32 images a step the learning rate that those
    for ImageNet have at 1024.

    Args:
        published: The recipe.
        images: Images of one optimizer step over all devices.

    Returns:
        Both, and whether the number of images is far from the recipe's.
    """
    optimizer = published.optimizer
    batch = optimizer.reference_batch or published.data.batch_size * published.trainer.accumulate
    scaled = scaled_lr(optimizer, images)
    if optimizer.kind != "adamw" or 1 / FAR <= images / batch <= FAR:
        return scaled, scaled, False
    return min(scaled, optimizer.lr), max(scaled, optimizer.lr), True


def _schedule(subject: Subject) -> list[Finding]:
    schedule = subject.schedule
    steps = [*schedule.config.milestone_steps]
    steps += [epoch * schedule.steps_per_epoch for epoch in schedule.config.milestones]
    if steps and min(steps) >= schedule.total_steps:
        return [
            Finding(
                "schedule",
                "warning",
                f"the learning rate first falls at step {min(steps)}, and the run ends at "
                f"{schedule.total_steps}",
                "move schedule.milestones into the run, or use schedule.kind cosine",
            )
        ]
    evidence = f"{schedule.total_steps} steps, {schedule.steps_per_epoch} an epoch"
    if schedule.shortening is not None:
        evidence += f"; {schedule.shortening}"
    return [Finding("schedule", "ok", evidence)]
