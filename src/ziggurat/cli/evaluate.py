"""`ziggurat evaluate RUN_OR_WEIGHTS`: the numbers of a trained model on a data set.

With `--results` the numbers of detections or label maps that any program wrote, without a model.
"""

import argparse
import csv
import io
import json
import sys
import time
from pathlib import Path

from rich.console import Console

from ziggurat.cli.suppression import add_suppression_arguments, suppression_of
from ziggurat.data.segmentation_layouts import SEGMENTATION
from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.evaluation import Evaluation, evaluate_run
from ziggurat.inference.evaluation_options import EvaluationOptions
from ziggurat.inference.label_gallery import EvaluatedLabels, image_rows, worst_panels
from ziggurat.inference.label_reevaluation import evaluate_label_files
from ziggurat.inference.object_data import named_places
from ziggurat.inference.output import write_bytes, write_json
from ziggurat.inference.predictor import find_weights
from ziggurat.inference.reevaluation import evaluate_results
from ziggurat.inference.run_report import confusion_picture, describe_evaluation
from ziggurat.inference.tiles import Tiles
from ziggurat.metrics.base import Report
from ziggurat.types import BadFile
from ziggurat.visualize.plots import plot_classes
from ziggurat.visualize.report import write_report
from ziggurat.visualize.tables import report_tables

SECONDS_BETWEEN_LINES = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "weights",
        type=Path,
        nargs="?",
        metavar="RUN_OR_WEIGHTS",
        help="folder of a training run, or a .safetensors file; left out with --results",
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE_OR_FOLDER",
        help="evaluate these detections (COCO result format), or the label maps in a folder, "
        "instead of a model",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="with label maps in --results: evaluate the images that have one, and no others",
    )
    parser.add_argument(
        "--data.root",
        dest="root",
        type=Path,
        metavar="DIR",
        help="folder of the data set; by default the one the run was trained on; with --results "
        "also an annotation file",
    )
    parser.add_argument(
        "--data.split",
        dest="split",
        metavar="SPLIT",
        help="split to evaluate on; by default the run's validation split, or val",
    )
    parser.add_argument(
        "--data.annotations",
        dest="annotations",
        type=Path,
        metavar="FILE",
        help="COCO annotation file of a detector's data, in any place, in place of a split; below "
        "--data.root where that is given",
    )
    parser.add_argument(
        "--data.images",
        dest="images",
        type=Path,
        metavar="DIR",
        help="folder that the file names in --data.annotations are relative to",
    )
    parser.add_argument(
        "--rules",
        choices=("coco", "voc", "cityscapes"),
        default="coco",
        help="whose average precision a detector's is: COCO's (the default), Pascal VOC's, of "
        "boxes, or Cityscapes', of masks",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="folder for evaluation.json, report.html, and for confusion.png of a classifier, "
        "predictions.json (COCO result format) of a detector, or confusion.png, classes.png, "
        "images.csv and the worst images of a segmenter; by default `evaluation` beside the "
        "weights or the results",
    )
    parser.add_argument(
        "--batch_size",
        type=int,
        metavar="N",
        help="images at once; by default as the run validated, else 32 for a classifier and 1 "
        "for other models",
    )
    _add_label_arguments(parser)
    _add_look_arguments(parser)
    add_suppression_arguments(parser)
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="processes that read images; 0, the default, reads in the main process",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto (the default), cpu, cuda, cuda:<number> or mps",
    )


def _add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what only segmenters are asked for."""
    parser.add_argument(
        "--data.layout",
        dest="layout",
        choices=tuple(SEGMENTATION),
        help="how label maps are laid out, where a folder can be read in two ways; by default as "
        "the run read it, else recognised",
    )
    parser.add_argument(
        "--save_labels",
        action="store_true",
        help="write the label maps of a segmenter to OUT/labels, with classes.json: a folder for "
        "--results",
    )


def _add_look_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how detectors and segmenters can be shown an image."""
    parser.add_argument(
        "--tile_size",
        type=int,
        metavar="PIXELS",
        help="cut images larger than this into overlapping square tiles, for a detector, which "
        "looks at the whole image, too, or a segmenter; tiles as large as the short side of the "
        "model's evaluation are seen pixel by pixel, smaller ones enlarged",
    )
    parser.add_argument(
        "--tile_overlap",
        type=int,
        metavar="PIXELS",
        help="what neighbouring tiles share, a quarter of their size by default",
    )
    parser.add_argument(
        "--flip",
        action="store_true",
        help="test-time augmentation: see every image mirrored, too",
    )
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        metavar="F",
        help="test-time augmentation: see every image in these sizes, 1 being that of the "
        "evaluation; give it after the weights",
    )


def run(args: argparse.Namespace) -> None:
    """Evaluate, print the table, and write what belongs to it.

    Raises:
        ZigguratError: If the number of workers is negative, or the arguments say what to evaluate
            not at all or twice.
    """
    if args.workers < 0:
        raise ZigguratError(f"--workers must be at least 0, got {args.workers}")
    if (args.weights is None) == (args.results is None):
        raise ZigguratError(
            "give either a run or weights to evaluate, or --results with detections, and not both"
        )
    output = args.output or _default_output(args)
    options = _options(args, output)
    if args.results is not None:
        evaluation = _evaluate_results(args, options)
    else:
        if args.partial:
            raise ZigguratError("--partial is for label maps given with --results; leave it out")
        evaluation = evaluate_run(
            args.weights,
            data_root=args.root,
            split=args.split,
            batch_size=args.batch_size,
            workers=args.workers,
            device=args.device,
            rules=args.rules,
            options=options,
            on_progress=_Progress(),
            on_bad_file=_report_bad_file,
        )
    console = Console()
    heading = f"{evaluation.model_name} ({evaluation.weights}) on {evaluation.data}"
    console.print(heading, markup=False, soft_wrap=True)
    for note in evaluation.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(report_tables(evaluation.report))
    files = _write(evaluation, output)
    if options.save_to is not None:
        files.append(options.save_to)
    for file in files:
        console.print(f"wrote {file}", markup=False, soft_wrap=True)


def _default_output(args: argparse.Namespace) -> Path:
    if args.results is not None:
        return Path(args.results).parent / "evaluation"
    return find_weights(args.weights).parent / "evaluation"


def _evaluate_results(args: argparse.Namespace, options: EvaluationOptions) -> Evaluation:
    """Evaluate detections or label maps.

    Raises:
        ZigguratError: If an option is for a model, or for results of the other kind.
    """
    if options.has_views or options.suppression is not None or options.save_to is not None:
        raise ZigguratError(
            "--save_labels, --tile_size, --flip, --scales, --nms and --voting are for a model, and "
            "--results has been predicted; leave them out"
        )
    if args.results.is_dir():
        if options.places is not None:
            raise ZigguratError(
                "--data.annotations and --data.images name the true objects of detections, and "
                "--results is a folder of label maps; give their data with --data.root"
            )
        return evaluate_label_files(
            args.results,
            data_root=args.root,
            split=args.split,
            layout=args.layout,
            is_partial=args.partial,
        )
    if args.partial or args.layout is not None:
        name = "--partial" if args.partial else "--data.layout"
        raise ZigguratError(
            f"{name} is for a folder of label maps, and --results is a file; leave it out"
        )
    return evaluate_results(
        args.results,
        data_root=args.root,
        split=args.split,
        rules=args.rules,
        places=options.places,
    )


def _options(args: argparse.Namespace, output: Path) -> EvaluationOptions:
    """Return what a model is asked for besides its numbers.

    Raises:
        ZigguratError: If tiles overlap that are not there.
    """
    tiles, augmentation = None, None
    if args.tile_size is not None:
        overlap = args.tile_size // 4 if args.tile_overlap is None else args.tile_overlap
        tiles = Tiles(args.tile_size, overlap)
    elif args.tile_overlap is not None:
        raise ZigguratError(
            "--tile_overlap says how tiles overlap, but without --tile_size there are none"
        )
    if args.flip or args.scales is not None:
        augmentation = Augmentation(args.flip, tuple(args.scales or (1.0,)))
    save_to = output / "labels" if args.save_labels else None
    places = named_places(args.root, args.annotations, args.images, args.split)
    return EvaluationOptions(
        tiles, augmentation, suppression_of(args), save_to, args.layout, places
    )


def _write(evaluation: Evaluation, output: Path) -> list[Path]:
    content = {
        "model": evaluation.model_name,
        "weights": str(evaluation.weights),
        "data": evaluation.data,
        "bad_files": [{"path": f.path, "reason": f.reason} for f in evaluation.bad_files],
        "notes": list(evaluation.notes),
        **evaluation.report.to_json(),
    }
    files = [write_json(output / "evaluation.json", content)]
    if evaluation.coco_results is not None:
        # A line each: half a million entries with indentation would take twice the room.
        lines = [json.dumps(entry, allow_nan=False) for entry in evaluation.coco_results]
        predictions = "[\n" + ",\n".join(lines) + "\n]\n"
        files.append(write_bytes(output / "predictions.json", predictions.encode("utf-8")))
    page = output / "report.html"
    write_report(page, describe_evaluation(evaluation))
    files.append(page)
    if evaluation.report.confusion is not None:
        picture = confusion_picture(evaluation.report)
        files.append(write_bytes(output / "confusion.png", picture))
    if evaluation.labels is not None:
        files += _write_labels(evaluation.report, evaluation.labels, output)
    return files


def _write_labels(report: Report, labels: EvaluatedLabels, output: Path) -> list[Path]:
    """Write what belongs to label maps: a bar a class, a line an image, and the worst images."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(image_rows(labels.images))
    files = [
        write_bytes(output / "classes.png", plot_classes(report, "IoU")),
        write_bytes(output / "images.csv", table.getvalue().encode("utf-8")),
    ]
    worst = output / "worst"
    for old in worst.glob("[0-9][0-9]_*.png"):
        old.unlink()  # of an earlier evaluation
    for name, picture in worst_panels(labels):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        write_bytes(worst / name, buffer.getvalue())
    return [*files, worst]


class _Progress:
    """Says every few seconds how far it is, in plain lines on stderr."""

    def __init__(self) -> None:
        self.begin = self.said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.said < SECONDS_BETWEEN_LINES:
            return
        self.said = now
        left = (now - self.begin) / done * (total - done)
        print(f"{done}/{total} batches, {left:.0f} s left", file=sys.stderr)


def _report_bad_file(file: BadFile) -> None:
    print(f"left out {file.path}: {file.reason}", file=sys.stderr)
