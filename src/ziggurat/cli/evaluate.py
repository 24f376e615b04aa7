"""`ziggurat evaluate RUN_OR_WEIGHTS`: the numbers of a trained model on a data set.

With `--results` the numbers of detections or label maps that any program wrote, without a model.
"""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from ziggurat.cli.memory import keep_memory
from ziggurat.cli.outputs import folder_for
from ziggurat.cli.suppression import add_suppression_arguments, suppression_of
from ziggurat.cli.views import add_precision_argument, add_view_arguments, views_of
from ziggurat.data.segmentation_layouts import SEGMENTATION
from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation import evaluate
from ziggurat.inference.evaluation_options import EvaluationOptions
from ziggurat.inference.evaluation_result import Evaluation
from ziggurat.inference.label_reevaluation import evaluate_label_files
from ziggurat.inference.object_data import named_places
from ziggurat.inference.predictor import find_weights
from ziggurat.inference.reevaluation import evaluate_results
from ziggurat.types import BadFile
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
    add_view_arguments(parser, after="the weights")
    add_suppression_arguments(parser)
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that read images; 0, the default, reads in the main process",
    )
    parser.add_argument(
        "--device",
        help="auto (the default), cpu, cuda, cuda:<number> or mps",
    )
    add_precision_argument(parser)


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


def run(args: argparse.Namespace) -> None:
    """Evaluate, print the table, and write what belongs to it.

    Raises:
        ZigguratError: If the arguments say what to evaluate not at all or twice, or one of them
            would be ignored.
    """
    if (args.weights is None) == (args.results is None):
        raise ZigguratError(
            "give either a run or weights to evaluate, or --results with detections or label "
            "maps, and not both"
        )
    output = args.output or _default_output(args)
    options = _options(args, output)
    if args.results is None and args.partial:
        raise ZigguratError("--partial is for label maps given with --results; leave it out")
    with folder_for(output):
        evaluation = (
            _evaluate_model(args, options)
            if args.results is None
            else _evaluate_results(args, options)
        )
    console = Console()
    heading = f"{evaluation.model_name} ({evaluation.weights}) on {evaluation.data}"
    console.print(heading, markup=False, soft_wrap=True)
    for note in evaluation.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(report_tables(evaluation.report))
    files = evaluation.save(output)
    if options.save_to is not None:
        files.append(Path(options.save_to))
    for file in files:
        console.print(f"wrote {file}", markup=False, soft_wrap=True)


def _evaluate_model(args: argparse.Namespace, options: EvaluationOptions) -> Evaluation:
    device = args.device or "auto"
    keep_memory(device)
    return evaluate(
        args.weights,
        data_root=args.root,
        split=args.split,
        batch_size=args.batch_size,
        workers=args.workers or 0,
        device=device,
        precision=args.precision or "32",
        rules=args.rules or "coco",
        options=options,
        on_progress=_Progress(),
        on_bad_file=_report_bad_file,
    )


def _default_output(args: argparse.Namespace) -> Path:
    if args.results is not None:
        return Path(args.results).parent / "evaluation"
    return find_weights(args.weights).parent / "evaluation"


def _evaluate_results(args: argparse.Namespace, options: EvaluationOptions) -> Evaluation:
    """Evaluate detections or label maps.

    Raises:
        ZigguratError: If an option is for a model, or for results of the other kind.
    """
    for_model = (
        *(options.suppression, options.save_to, args.batch_size, args.workers),
        *(args.device, args.precision),
    )
    if options.has_views or any(value is not None for value in for_model):
        raise ZigguratError(
            "--save_labels, --tile_size, --window, --flip, --scales, --nms, --voting, "
            "--batch_size, --workers, --device and --precision are for a model, and --results has "
            "been predicted; leave them out"
        )
    if args.results.is_dir():
        if options.places is not None:
            raise ZigguratError(
                "--data.annotations and --data.images name the true objects of detections, and "
                "--results is a folder of label maps; give their data with --data.root"
            )
        if args.rules is not None:
            raise ZigguratError(
                f"--rules {args.rules} is for detections, and --results is a folder of label maps; "
                "leave it out"
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
        rules=args.rules or "coco",
        places=options.places,
    )


def _options(args: argparse.Namespace, output: Path) -> EvaluationOptions:
    """Return what a model is asked for besides its numbers."""
    tiles, augmentation = views_of(args)
    save_to = output / "labels" if args.save_labels else None
    places = named_places(args.root, args.annotations, args.images, args.split)
    return EvaluationOptions(
        tiles, augmentation, suppression_of(args), save_to, args.layout, places
    )


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
