"""The main job on built-in data: synthesize, train, evaluate, predict, one page at the end.

It is what a user does with data of his own, in small: everything here goes through the functions
that the command line calls.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ziggurat.config.files import load_run
from ziggurat.data.coco import CocoDetection, find_coco
from ziggurat.data.decode import decode_image
from ziggurat.data.detection import DetectionTransform
from ziggurat.data.synthesize import synthesize
from ziggurat.engine.budget import fit_to_minutes
from ziggurat.engine.progress import duration
from ziggurat.engine.train import train
from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation import evaluate_run
from ziggurat.inference.predictor import load
from ziggurat.metrics.base import Report
from ziggurat.types import Detections, FitInside, Sample
from ziggurat.visualize.draw import draw_detections
from ziggurat.visualize.plots import group_curves, plot_classes, plot_curves, read_curves
from ziggurat.visualize.report import Command, Comparison, Fact, Plot, ReportPage, write_report

RECIPE = "retinanet_p2t_tiny_from_scratch"
NUM_IMAGES = 600
NUM_CLASSES = 4
VAL_FRACTION = 0.1
IMAGE_SIDE = 128
GALLERY_IMAGES = 12
GALLERY_SCORE = 0.4
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
    "--trainer.val_every_epochs=4",
)


@dataclass(frozen=True)
class DemoResult:
    """What the demo left.

    Attributes:
        page: The HTML page.
        report: Numbers of the evaluation on images that the model has not seen.
        seconds: Time of the training, validations included.
    """

    page: Path
    report: Report
    seconds: float


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
    evaluation = evaluate_run(run)
    report = evaluation.report
    say("4/4 predicting and writing the page")
    page = output / "report.html"
    facts = (
        Fact("model", "RetinaNet on P2T-Tiny, neck and head of 64 channels"),
        Fact("weights at the start", "random, no pretraining"),
        Fact("training", f"{last['step']} steps of {config.data.batch_size} images"),
        Fact("training time", duration(seconds)),
        Fact("data", f"{NUM_IMAGES} scenes, {report.num_images} of them held back"),
        Fact("machine", _machine()),
    )
    write_report(page, _build_page(run, root, report, seconds, facts))
    return DemoResult(page, report, seconds)


def _build_page(
    run: Path, root: Path, report: Report, seconds: float, facts: Sequence[Fact]
) -> ReportPage:
    groups = group_curves(read_curves(run / "metrics.csv"))
    numbers = report.numbers
    return ReportPage(
        title="Ziggurat demo: a detector from nothing",
        summary=(
            f"Trained for {duration(seconds)} from random weights, the detector reaches AP50 "
            f"{100 * numbers['AP50']:.1f} % and AP {100 * numbers['AP']:.1f} % on "
            f"{report.num_images} images that it has never seen."
        ),
        report=report,
        facts=facts,
        plots=(
            Plot(
                "Training",
                plot_curves(groups),
                plot_curves(groups, dark=True),
                "The numbers on validation images are those of the held-back split, on which the "
                "best weights were chosen.",
            ),
            Plot("Classes", plot_classes(report, "AP"), plot_classes(report, "AP", dark=True)),
        ),
        gallery=_compare(run, root),
        gallery_note=(
            f"The first {GALLERY_IMAGES} held-back images, not chosen by result; predictions "
            f"above a score of {GALLERY_SCORE}."
        ),
        commands=(
            Command(
                "Check data of your own (COCO JSON, image folders)", "ziggurat data check my_data/"
            ),
            Command(
                "Train the same detector on it", f"ziggurat train {RECIPE} --data.root my_data/"
            ),
            Command("Measure it", f"ziggurat evaluate runs/{RECIPE}"),
            Command("Use it", f"ziggurat predict runs/{RECIPE} photos/ -o predictions/"),
            Command("Run this demo again", "ziggurat demo --output demo_again"),
        ),
    )


def _compare(run: Path, root: Path) -> list[Comparison]:
    """Draw predictions beside the truth, for the first images of the held-back split."""
    annotations, images = find_coco(root, "val")
    untouched = DetectionTransform(
        FitInside(IMAGE_SIDE, IMAGE_SIDE), flip=0.0, scales=None, exact_resize=True
    )
    dataset = CocoDetection(annotations, images, untouched, train=False, keep_empty=True)
    predictor = load(run)
    comparisons = []
    for index in range(min(GALLERY_IMAGES, len(dataset))):
        sample = dataset[index]
        assert isinstance(sample, Sample)
        path = Path(sample.info.path)
        image = decode_image(path)
        found = predictor(image, score_threshold=GALLERY_SCORE).result
        assert isinstance(sample.target, Detections)
        assert isinstance(found, Detections)
        truth, prediction = (
            draw_detections(image, objects, predictor.classes, show_scores=is_found)
            for objects, is_found in ((sample.target, False), (found, True))
        )
        comparisons.append(Comparison(path.name, truth, prediction))
    return comparisons


def _machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"
