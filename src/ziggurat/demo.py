"""The main job on built-in data: synthesize, train, evaluate, predict, one page at the end.

It is what a user does with data of his own, in small: everything here goes through the functions
that the command line calls.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ziggurat.config.files import load_run
from ziggurat.config.tree import TrainConfig
from ziggurat.data.synthesize import synthesize
from ziggurat.engine.budget import describe_machine, fit_to_minutes
from ziggurat.engine.progress import duration
from ziggurat.engine.train import train
from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation import evaluate
from ziggurat.inference.run_report import describe_run
from ziggurat.metrics.base import Report
from ziggurat.visualize.report import Command, Fact, write_report

RECIPE = "retinanet_p2t_tiny_from_scratch"
NUM_IMAGES = 600
NUM_CLASSES = 3
VAL_FRACTION = 0.1
IMAGE_SIDE = 128
# What five minutes on two cores allow: small images, a thin head, one process.
OVERRIDES = (
    f"--data.short_side={IMAGE_SIDE}",
    f"--data.long_side={IMAGE_SIDE}",
    "--data.batch_size=8",
    "--data.eval_batch_size=16",
    "--data.workers=0",
    "--model.head_channels=64",
    "--model.head_depth=1",
    "--optimizer.reference_batch=8",
    "--optimizer.lr=8e-4",
    "--trainer.max_epochs=16",
    "--trainer.val_every_epochs=2",
    "--trainer.devices=1",
)


@dataclass(frozen=True)
class DemoResult:
    """What the demo left.

    Attributes:
        page: The HTML page.
        report: Numbers of the evaluation on images that the model has not seen.
    """

    page: Path
    report: Report


def run_demo(output: Path, *, minutes: float, say: Callable[[str], None]) -> DemoResult:
    """Run the whole of it.

    Args:
        output: Folder for data, run and page; it must not exist, or be empty.
        minutes: Time for the training.
        say: Takes lines about what happens.

    Raises:
        ZigguratError: If the folder holds something already, or cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ZigguratError(
            f"the demo needs a new folder, and {output} holds something already; remove it or "
            "choose another one with --output"
        )
    data, run = output / "data", output / "run"
    say(f"1/4 synthesizing {NUM_IMAGES} scenes of {IMAGE_SIDE} x {IMAGE_SIDE} pixels in {data}")
    synthesize(
        data,
        num_images=NUM_IMAGES,
        size=(IMAGE_SIDE, IMAGE_SIDE),
        seed=0,
        val_fraction=VAL_FRACTION,
        num_classes=NUM_CLASSES,
    )
    root = data / "detection"
    config = load_run(RECIPE, [f"--data.root={root}", *OVERRIDES])
    say(f"2/4 training a detector from scratch, {minutes:g} minutes at most")
    start = time.monotonic()
    config = fit_to_minutes(config, minutes, say)
    last = train(config, run, say=say).metrics["last"]
    seconds = time.monotonic() - start
    say("3/4 evaluating the best weights on the held-back images")
    report = evaluate(run).report
    say("4/4 predicting and writing the page")
    page = output / "report.html"
    numbers = report.numbers
    content = describe_run(
        run,
        report,
        title="Ziggurat demo: a detector from nothing",
        summary=(
            f"Trained for {duration(seconds)} from random weights, the detector reaches AP50 "
            f"{100 * numbers['AP50']:.1f} % and AP {100 * numbers['AP']:.1f} % on "
            f"{report.num_images} images that it was not trained on."
        ),
        facts=_facts(last, config, report, seconds),
        commands=_commands(),
    )
    write_report(page, content)
    return DemoResult(page, report)


def _facts(last: dict[str, Any], config: TrainConfig, report: Report, seconds: float) -> list[Fact]:
    return [
        Fact("model", "RetinaNet on P2T-Tiny, neck and head of 64 channels"),
        Fact("weights at the start", "random, no pretraining"),
        Fact("training", f"{last['step']} steps of {config.data.batch_size} images"),
        Fact("training time", duration(seconds)),
        Fact("data", f"{NUM_IMAGES} scenes, {report.num_images} of them held back"),
        Fact("machine", describe_machine()),
    ]


def _commands() -> list[Command]:
    return [
        Command(
            "Check data of your own (COCO JSON, image folders)", "ziggurat data check my_data/"
        ),
        Command(
            "Train on it what this demo trained, on larger images and with a wider head",
            f"ziggurat train {RECIPE} --data.root my_data/",
        ),
        Command("Measure it", f"ziggurat evaluate runs/{RECIPE}"),
        Command("Use it", f"ziggurat predict runs/{RECIPE} photos/ -o predictions/"),
        Command("Run this demo again, in a new folder", "ziggurat demo"),
    ]
