"""All checks of a run, one after another, within a given time."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ziggurat.config.tree import TrainConfig
from ziggurat.doctor import (
    anchors,
    balance,
    classes,
    colours,
    duplicates,
    faults,
    learning_rate,
    numbers,
    overfit,
    sizes,
    speed,
    weights,
)
from ziggurat.doctor.clock import Clock, OutOfTimeError
from ziggurat.doctor.findings import Diagnosis, Finding
from ziggurat.doctor.subject import Subject, open_run
from ziggurat.engine.output import with_absolute_paths
from ziggurat.errors import ZigguratError


@dataclass(frozen=True)
class Check:
    """A check and the share of the whole time that it may take.

    Attributes:
        name: What it is called where it was not run.
        run: Gives its findings.
        share: Of the whole time; what is not used is left to those after it.
    """

    name: str
    run: Callable[[Subject, Clock], list[Finding]]
    share: float


CHECKS = (
    Check(learning_rate.CHECK, learning_rate.check_learning_rate, 0.05),
    Check(classes.CHECK, classes.check_classes, 0.05),
    Check(weights.CHECK, weights.check_weights, 0.15),
    Check(sizes.CHECK, sizes.check_sizes, 0.1),
    Check(anchors.CHECK, anchors.check_anchors, 0.1),
    Check(colours.CHECK, colours.check_colours, 0.15),
    Check(balance.CHECK, balance.check_balance, 0.1),
    Check(duplicates.CHECK, duplicates.check_duplicates, 0.1),
    Check(faults.CHECK, faults.check_faults, 0.15),
    Check(numbers.CHECK, numbers.check_numbers, 0.2),
    Check(speed.CHECK, speed.check_speed, 0.25),
    Check(overfit.CHECK, overfit.check_overfit, 1.0),
)
"""Cheap ones first, so that a short time is enough for most; the last takes what is left."""


def examine(
    config: TrainConfig,
    source: str | Path,
    *,
    minutes: float,
    on_progress: Callable[[str], None],
) -> Diagnosis:
    """Look at a run before it begins; nothing is written.

    Args:
        config: The run.
        source: Recipe or file that it was read from.
        minutes: Time for all checks; the one at work when it is up is still finished.
        on_progress: Called with the name of each check as it begins.

    Raises:
        ZigguratError: If data or model cannot be opened, as training would say.
    """
    if minutes <= 0:
        raise ZigguratError(f"--minutes must be above 0, got {minutes:g}")
    clock = Clock(60 * minutes)
    on_progress("data and model")
    config = with_absolute_paths(config)
    subject = open_run(config, source)
    findings: list[Finding] = []
    for check in CHECKS:
        on_progress(check.name)
        torch.manual_seed(config.trainer.seed)
        findings += _run(check, subject, clock)
    return Diagnosis.of(findings, clock.passed)


def _run(check: Check, subject: Subject, clock: Clock) -> list[Finding]:
    longer = "give more --minutes"
    if clock.left <= 0:
        return [Finding(check.name, "not run", "the time was up before it", longer)]
    try:
        return check.run(subject, clock.part(check.share))
    except OutOfTimeError as reason:
        return [Finding(check.name, "not run", f"the time was up: {reason}", longer)]
    except ZigguratError as error:  # training would stop with it
        what, _, fix = str(error).rpartition("; ")
        return [Finding(check.name, "error", what or fix, fix if what else "")]
    except torch.OutOfMemoryError:
        return [
            Finding(
                check.name,
                "error",
                f"the memory of {subject.device} was not enough for the images that were tried",
                "use smaller images or a smaller model, or free the device",
            )
        ]
