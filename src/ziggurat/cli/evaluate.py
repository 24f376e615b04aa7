"""`ziggurat evaluate RUN_OR_WEIGHTS`: the numbers of a trained model on a data set.

With `--results FILE` the numbers of detections that any program wrote, without a model.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from rich.console import Console

from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation import Evaluation, evaluate_run
from ziggurat.inference.output import write_bytes, write_json
from ziggurat.inference.reevaluation import evaluate_results
from ziggurat.inference.run_report import describe_evaluation
from ziggurat.types import BadFile
from ziggurat.visualize.plots import plot_confusion
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
        metavar="FILE",
        help="evaluate these detections (COCO result format) instead of a model",
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
        "--rules",
        choices=("coco", "voc"),
        default="coco",
        help="whose average precision a detector's is: COCO's (the default) or Pascal VOC's",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="folder for evaluation.json, report.html, and for confusion.png of a classifier or "
        "predictions.json (COCO result format) of a detector; by default `evaluation` beside the "
        "weights or the results",
    )
    parser.add_argument(
        "--batch_size",
        type=int,
        metavar="N",
        help="images at once; by default as the run validated, else 1 for a detector and 32 for "
        "a classifier",
    )
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
    if args.results is not None:
        evaluation = evaluate_results(
            args.results, data_root=args.root, split=args.split, rules=args.rules
        )
    else:
        evaluation = evaluate_run(
            args.weights,
            data_root=args.root,
            split=args.split,
            batch_size=args.batch_size,
            workers=args.workers,
            device=args.device,
            rules=args.rules,
            on_progress=_Progress(),
            on_bad_file=_report_bad_file,
        )
    output = evaluation.weights.parent / "evaluation" if args.output is None else args.output
    console = Console()
    heading = f"{evaluation.model_name} ({evaluation.weights}) on {evaluation.data}"
    console.print(heading, markup=False, soft_wrap=True)
    console.print(report_tables(evaluation.report))
    for file in _write(evaluation, output):
        console.print(f"wrote {file}", markup=False, soft_wrap=True)


def _write(evaluation: Evaluation, output: Path) -> list[Path]:
    content = {
        "model": evaluation.model_name,
        "weights": str(evaluation.weights),
        "data": evaluation.data,
        "bad_files": [{"path": f.path, "reason": f.reason} for f in evaluation.bad_files],
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
    confusion = evaluation.report.confusion
    if confusion is not None:
        names = [str(row["class"]) for row in evaluation.report.per_class]
        picture = plot_confusion(confusion, names)
        files.append(write_bytes(output / "confusion.png", picture))
    return files


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
