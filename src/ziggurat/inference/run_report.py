"""The page about a run: its numbers, its curves, and predictions beside the truth."""

from collections.abc import Sequence
from pathlib import Path

from ziggurat.data.decode import decode_image
from ziggurat.inference.evaluation import find_run, open_data
from ziggurat.inference.predictor import find_weights, load
from ziggurat.metrics.base import Report
from ziggurat.ops.boxes import scale_boxes
from ziggurat.types import ClassScores, Detections, Sample, scale_between
from ziggurat.visualize.draw import draw_classes, draw_detections
from ziggurat.visualize.plots import (
    group_curves,
    plot_classes,
    plot_confusion,
    plot_curves,
    read_curves,
)
from ziggurat.visualize.report import Command, Comparison, Fact, Plot, ReportPage

GALLERY_IMAGES = 12
GALLERY_SCORE = 0.4
"""Detections below this are not drawn: a page shows what a user would see."""


def describe_run(
    run: Path,
    report: Report,
    *,
    title: str,
    summary: str,
    facts: Sequence[Fact],
    commands: Sequence[Command],
) -> ReportPage:
    """Put together what a run's folder and its evaluation tell.

    Args:
        run: Folder of the run, with metrics.csv and weights.
        report: Numbers of its best weights on its validation split.
        title: Heading of the page.
        summary: What came out, in a sentence or two.
        facts: Model, data, time and machine.
        commands: How to repeat it.
    """
    curves = group_curves(read_curves(run / "metrics.csv"))
    plots = [
        Plot(
            "Training",
            plot_curves(curves),
            plot_curves(curves, dark=True),
            "The best weights were chosen on the validation images, on which they are reported.",
        )
    ]
    if report.confusion is not None:
        names = [str(row["class"]) for row in report.per_class]
        light, dark = (
            plot_confusion(report.confusion, names, dark=is_dark) for is_dark in (False, True)
        )
        plots.append(Plot("Confusion", light, dark))
    elif any(row["AP"] is not None for row in report.per_class):
        light, dark = (plot_classes(report, "AP", dark=is_dark) for is_dark in (False, True))
        plots.append(Plot("Classes", light, dark))
    return ReportPage(
        title=title,
        summary=summary,
        report=report,
        facts=facts,
        plots=plots,
        gallery=compare(run, GALLERY_IMAGES),
        gallery_note=(
            f"{GALLERY_IMAGES} validation images at equal distances, not chosen by result; "
            f"objects above a score of {GALLERY_SCORE}."
        ),
        commands=commands,
    )


def compare(run: Path, count: int) -> list[Comparison]:
    """Draw predictions beside the truth, for images at equal distances in the validation split.

    Args:
        run: Folder of the run.
        count: Number of images at most.
    """
    weights = find_weights(run)
    predictor = load(weights)
    dataset = open_data(predictor.model, find_run(weights), None, None).dataset
    comparisons: list[Comparison] = []
    for index in range(0, len(dataset), max(1, len(dataset) // count)):
        sample = dataset[index]
        if not isinstance(sample, Sample) or len(comparisons) == count:
            continue
        path = Path(sample.info.path)
        image = decode_image(path)
        prediction = predictor(image)
        result, target = prediction.result, sample.target
        if isinstance(result, ClassScores):
            assert isinstance(target, int)
            title = f"{predictor.classes[target]}: {path.name}"
            drawn = draw_classes(image, result, predictor.classes)
            comparisons.append(Comparison(title, image, drawn))
            continue
        assert isinstance(target, Detections)
        size = (sample.image.shape[1], sample.image.shape[2])
        factors = scale_between(size, sample.info.original_size)
        truth = Detections(scale_boxes(target.boxes, factors), target.scores, target.labels)
        comparisons.append(
            Comparison(
                path.name,
                draw_detections(image, truth, dataset.classes, show_scores=False),
                draw_detections(image, result.above(GALLERY_SCORE), predictor.classes),
            )
        )
    return comparisons
