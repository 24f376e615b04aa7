"""What an evaluation found, and the files that tell it."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ziggurat.inference.gallery import EvaluatedObjects, draw_worst
from ziggurat.inference.label_gallery import (
    EvaluatedLabels,
    draw_worst_labels,
    image_rows,
    worst_panels,
)
from ziggurat.inference.output import write_bytes, write_json
from ziggurat.metrics.base import Report
from ziggurat.types import BadFile
from ziggurat.visualize.plots import plot_classes, plot_confusion, plot_errors
from ziggurat.visualize.report import Fact, Plot, ReportPage, write_report
from ziggurat.visualize.tables import class_number, percent


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        report: The numbers.
        weights: File of the model, or of the results; None for a model that came from no file.
        model_name: Name of the model.
        data: What it was evaluated on.
        coco_results: All detections in COCO's result format; None for other models.
        bad_files: Images that could not be decoded and are not counted.
        objects: Objects that were found, to be drawn; None for models that find none.
        labels: Label maps, to be drawn; None for models that make none.
        notes: What makes the numbers doubtful, a sentence each.
    """

    report: Report
    weights: Path | None
    model_name: str
    data: str
    coco_results: list[dict[str, Any]] | None
    bad_files: tuple[BadFile, ...]
    objects: EvaluatedObjects | None = None
    labels: EvaluatedLabels | None = None
    notes: tuple[str, ...] = ()

    def save(self, folder: str | Path) -> list[Path]:
        """Write the numbers and a page about them, and what belongs to the kind of model.

        These are evaluation.json and report.html, of a classifier confusion.png, of a detector
        predictions.json (COCO result format), and of label maps confusion.png, classes.png,
        images.csv and the folder worst.

        Args:
            folder: Where to write; it is made if it is missing.

        Returns:
            What was written.
        """
        folder = Path(folder)
        files = [write_json(folder / "evaluation.json", self._to_json())]
        if self.coco_results is not None:
            # A line each: half a million entries with indentation would take twice the room.
            lines = [json.dumps(entry, allow_nan=False) for entry in self.coco_results]
            predictions = "[\n" + ",\n".join(lines) + "\n]\n"
            files.append(write_bytes(folder / "predictions.json", predictions.encode("utf-8")))
        page = folder / "report.html"
        write_report(page, describe_evaluation(self))
        files.append(page)
        if self.report.confusion is not None:
            picture = confusion_picture(self.report)
            files.append(write_bytes(folder / "confusion.png", picture))
        if self.labels is not None:
            files += _write_labels(self.report, self.labels, folder)
        return files

    def _to_json(self) -> dict[str, Any]:
        return {
            "model": self.model_name,
            "weights": None if self.weights is None else str(self.weights),
            "data": self.data,
            "bad_files": [{"path": f.path, "reason": f.reason} for f in self.bad_files],
            "notes": list(self.notes),
            **self.report.to_json(),
        }


def _write_labels(report: Report, labels: EvaluatedLabels, folder: Path) -> list[Path]:
    """Write what belongs to label maps: a bar a class, a line an image, and the worst images."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(image_rows(labels.images))
    # Names of files need be no UTF-8.
    lines = table.getvalue().encode("utf-8", "backslashreplace")
    files = [write_bytes(folder / "images.csv", lines)]
    classes = folder / "classes.png"
    if class_number(report) is None:  # no class occurs anywhere
        classes.unlink(missing_ok=True)
    else:
        files.insert(0, write_bytes(classes, plot_classes(report, "IoU")))
    worst = folder / "worst"
    for old in worst.glob("[0-9][0-9]_*.png"):
        old.unlink()  # of an earlier evaluation
    for name, picture in worst_panels(labels):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        write_bytes(worst / name, buffer.getvalue())
    return [*files, worst] if labels.worst else files


def describe_evaluation(evaluation: Evaluation) -> ReportPage:
    """Put together what an evaluation found.

    Args:
        evaluation: Of a model, or of results.
    """
    report = evaluation.report
    facts = [Fact("model", evaluation.model_name)]
    if evaluation.weights is not None:
        facts.append(Fact("file", str(evaluation.weights)))
    facts.append(Fact("data", evaluation.data))
    facts += [Fact("note", note) for note in evaluation.notes]
    if evaluation.bad_files:
        facts.append(Fact("left out", f"{len(evaluation.bad_files)} damaged images"))
    galleries = []
    if evaluation.objects is not None and report.errors:
        gallery = draw_worst(evaluation.objects, report.errors[-1])
        galleries = [gallery] if gallery.items else []
    if evaluation.labels is not None:
        gallery = draw_worst_labels(evaluation.labels)
        galleries += [gallery] if gallery.items else []
    return ReportPage(
        title=f"{evaluation.model_name} on {report.num_images} images",
        summary=f"{report.primary} {percent(report.value)} %.",
        report=report,
        facts=facts,
        plots=report_plots(report),
        galleries=galleries,
    )


def report_plots(report: Report) -> list[Plot]:
    """Draw what a report has: the confusion matrix or the classes, and the mistakes.

    Args:
        report: What an evaluation found.
    """
    plots = []
    # A classifier's bars would say what the diagonal of its matrix says.
    number = class_number(report)
    if report.confusion is not None:
        light, dark = (confusion_picture(report, dark=is_dark) for is_dark in (False, True))
        plots.append(Plot("Confusion", light, dark))
    if number is not None and (report.confusion is None or report.confusion_of == "pixels"):
        light, dark = (plot_classes(report, number, dark=is_dark) for is_dark in (False, True))
        plots.append(Plot("Classes", light, dark))
    if report.errors:
        light, dark = (plot_errors(report.errors, dark=is_dark) for is_dark in (False, True))
        note = "What AP50 gains when the mistakes of one kind, and no others, are put right."
        plots.append(Plot("Mistakes", light, dark, note))
    return plots


def confusion_picture(report: Report, *, dark: bool = False) -> bytes:
    """Draw the confusion matrix of a report, of the classes that occur.

    Args:
        report: What an evaluation found; it has a matrix.
        dark: Light letters on a dark ground.

    Returns:
        A PNG file.

    Raises:
        ValueError: If the report has no matrix.
    """
    if report.confusion is None:
        raise ValueError("the report has no confusion matrix to draw")
    names = [str(row["class"]) for row in report.per_class]
    confusion = report.confusion
    if report.confusion_of == "pixels":  # of 150 classes a data set may have twenty
        present = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
        confusion = confusion[np.ix_(present, present)]
        names = [names[label] for label in present]
    return plot_confusion(confusion, names, of=report.confusion_of, dark=dark)
