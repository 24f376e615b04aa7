"""The page about a run: its numbers, its curves, and predictions beside the truth."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ziggurat.data.class_masks import ClassMaskFolder
from ziggurat.data.coco import CocoDetection
from ziggurat.data.decode import decode_image
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.labelled_images import LabelledImages
from ziggurat.inference.evaluation import EvaluationData, find_run, open_data
from ziggurat.inference.evaluation_result import report_plots
from ziggurat.inference.gallery import true_detections
from ziggurat.inference.label_evaluation import colours_of
from ziggurat.inference.label_gallery import comparison
from ziggurat.inference.predictor import (
    WEIGHT_FILES,
    Predictor,
    find_weights,
    load,
)
from ziggurat.metrics.base import Report
from ziggurat.metrics.coco import CocoMetric
from ziggurat.types import ClassMasks, ClassScores, LabelMap, Sample
from ziggurat.visualize.draw import draw_classes, draw_detections
from ziggurat.visualize.label_comparison import compare_labels
from ziggurat.visualize.plots import Curve, group_curves, plot_curves, read_curves
from ziggurat.visualize.report import Command, Comparison, Fact, Gallery, Plot, ReportPage
from ziggurat.visualize.visible_labels import compared

GALLERY_IMAGES = 12
GALLERY_SCORE = 0.4
"""Detections below this are not drawn: a page shows what a user would see."""


def describe_run(
    run: Path,
    report: Report | None,
    *,
    title: str,
    summary: str,
    facts: Sequence[Fact],
    commands: Sequence[Command] = (),
    num_images: int = GALLERY_IMAGES,
    data_root: Path | None = None,
) -> ReportPage:
    """Put together what a run's folder and its evaluation tell, after the run or during it.

    Args:
        run: Folder of the run, with metrics.csv and weights as far as they are written.
        report: Numbers of its best weights on its validation split, or None before the first.
        title: Heading of the page.
        summary: What came out, in a sentence or two.
        facts: Model, data, time and machine.
        commands: How to repeat it.
        num_images: Images on which predictions are shown beside the truth.
        data_root: Folder of their data set; by default the one the run was trained on.
    """
    curves = read_curves(run / "metrics.csv") if (run / "metrics.csv").is_file() else []
    plots = [_training_plot(curves)] if curves else []
    is_shown = num_images > 0 and any((run / name).is_file() for name in WEIGHT_FILES)
    return ReportPage(
        title=title,
        summary=summary,
        report=report,
        facts=facts,
        plots=[*plots, *([] if report is None else report_plots(report))],
        galleries=_galleries(run, report, num_images, data_root) if is_shown else [],
        commands=commands,
    )


def _training_plot(curves: Sequence[Curve]) -> Plot:
    groups = group_curves(curves)
    return Plot(
        "Training",
        plot_curves(groups),
        plot_curves(groups, dark=True),
        "The best weights were chosen on the validation images, on which they are reported.",
    )


def _galleries(
    run: Path, report: Report | None, num_images: int, data_root: Path | None
) -> list[Gallery]:
    """Predict a few images with a run's best weights, or its last before there are any."""
    weights = find_weights(run)
    predictor = load(weights, device="cpu")  # the run may still need the GPU
    data = open_data(predictor.model, find_run(weights), data_root, None)
    count = len(data.dataset)
    spread = range(0, count, max(1, count // num_images))[:num_images]
    has_objects = isinstance(data.dataset, CocoDetection)
    drawn = f"; objects above a score of {GALLERY_SCORE}" if has_objects else ""
    galleries = [
        Gallery(
            "Predictions beside the truth",
            f"{len(spread)} validation images at equal distances, not chosen by result{drawn}.",
            compare(predictor, data, spread, GALLERY_SCORE),
        )
    ]
    if report is not None and report.errors and isinstance(data.dataset, CocoDetection):
        breakdown = report.errors[-1]
        places = {image_id: place for place, image_id in enumerate(data.dataset.file.image_ids)}
        worst = [places[image.image_id] for image in breakdown.worst]
        galleries.append(
            Gallery(
                "Worst images",
                f"Those with most mistakes among {breakdown.of} with a score of at least "
                f"{breakdown.threshold:.2f}, where precision and recall are in balance.",
                compare(predictor, data, worst, breakdown.threshold),
            )
        )
    return galleries


def compare(
    predictor: Predictor, data: EvaluationData, places: Sequence[int], score: float
) -> list[Comparison]:
    """Draw predictions beside the truth; images that cannot be decoded are left out.

    Args:
        predictor: Predicts.
        data: The images and what is true of them.
        places: Which images of the data set.
        score: Objects below it are not drawn.
    """
    comparisons: list[Comparison] = []
    for place in places:
        sample = data.dataset[place]
        if not isinstance(sample, Sample):
            continue
        path = Path(sample.info.path)
        if isinstance(data.dataset, LabelledImages):  # it may be packed, and no file of its own
            image = data.dataset.picture(place)
        else:
            image = decode_image(path)
        threshold = score if isinstance(data.dataset, CocoDetection) else None
        result = predictor(image, score_threshold=threshold).result
        if isinstance(result, ClassScores):
            assert isinstance(sample.target, int)
            title = f"{predictor.classes[sample.target]}: {path.name}"
            drawn = draw_classes(image, result, predictor.classes)
            comparisons.append(Comparison(title, image, drawn))
            continue
        if isinstance(result, LabelMap | ClassMasks):
            comparisons.append(_compare_pixels(image, sample, result, data))
            continue
        assert isinstance(data.metric, CocoMetric)
        metric, info = data.metric, sample.info
        objects = true_detections(
            metric.truth, metric.category_ids, info.image_id, info.original_size
        )
        comparisons.append(
            Comparison(
                path.name,
                draw_detections(image, objects, metric.classes, show_scores=False),
                draw_detections(image, result, predictor.classes),
            )
        )
    return comparisons


def _compare_pixels(
    image: Image.Image, sample: Sample, result: LabelMap | ClassMasks, data: EvaluationData
) -> Comparison:
    assert isinstance(sample.target, LabelMap | ClassMasks)
    assert isinstance(data.dataset, LabelFolder | ClassMaskFolder)
    classes = data.metric.classes
    colours = colours_of(classes, data.dataset.rule)
    pictures = compare_labels(image, compared(sample.target, result), colours)
    return comparison(Path(sample.info.path).name, pictures, classes, colours)
