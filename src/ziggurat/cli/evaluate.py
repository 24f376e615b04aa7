"""`ziggurat evaluate RUN_OR_WEIGHTS`: the numbers of a trained model on a data set."""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation import Evaluation, evaluate_run
from ziggurat.inference.output import write_bytes, write_json
from ziggurat.types import BadFile
from ziggurat.visualize.plots import plot_confusion
from ziggurat.visualize.tables import report_tables

SECONDS_BETWEEN_LINES = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "weights",
        type=Path,
        metavar="RUN_OR_WEIGHTS",
        help="folder of a training run, or a .safetensors file",
    )
    parser.add_argument(
        "--data.root",
        dest="root",
        type=Path,
        metavar="DIR",
        help="folder of the data set; by default the one the run was trained on",
    )
    parser.add_argument(
        "--data.split",
        dest="split",
        metavar="SPLIT",
        help="split to evaluate on; by default the run's validation split, or val",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="folder for evaluation.json, and for confusion.png of a classifier or "
        "predictions.json (COCO result format) of a detector; by default `evaluation` beside the "
        "weights",
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
        ZigguratError: If the number of workers is negative.
    """
    if args.workers < 0:
        raise ZigguratError(f"--workers must be at least 0, got {args.workers}")
    evaluation = evaluate_run(
        args.weights,
        data_root=args.root,
        split=args.split,
        batch_size=args.batch_size,
        workers=args.workers,
        device=args.device,
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
        files.append(write_json(output / "predictions.json", evaluation.coco_results))
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
