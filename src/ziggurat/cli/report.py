"""`ziggurat report RUN`: one page about a run, after it or while it goes on.

Curves, numbers, settings that matter, and predictions beside the truth.
"""

import argparse
from pathlib import Path

from ziggurat.cli.outputs import make_place
from ziggurat.errors import ZigguratError
from ziggurat.inference.run_record import RunRecord, read_run
from ziggurat.inference.run_report import GALLERY_IMAGES, describe_run
from ziggurat.visualize.report import Fact, write_report
from ziggurat.visualize.tables import percent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the page; by default RUN/report.html"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=GALLERY_IMAGES,
        metavar="N",
        help="validation images on which predictions are shown beside the truth, on the CPU; 0 for "
        f"none (default {GALLERY_IMAGES})",
    )
    parser.add_argument(
        "--data.root",
        dest="root",
        type=Path,
        metavar="DIR",
        help="folder of the data set that the predictions are shown on; by default the one the run "
        "was trained on",
    )


def run(args: argparse.Namespace) -> None:
    """Write the page.

    Raises:
        ZigguratError: If the folder holds no run, or the page cannot be written.
    """
    if args.images < 0:
        raise ZigguratError(f"--images must be at least 0, got {args.images}")
    record = read_run(args.run)
    output = args.output or args.run / "report.html"
    make_place(output)
    page = describe_run(
        args.run,
        None if record.best is None else record.best.report,
        title=f"{record.model_name}: {record.path.resolve().name}",
        summary=_summary(record),
        facts=_facts(record),
        num_images=args.images,
        data_root=args.root,
    )
    write_report(output, page)
    print(f"{_summary(record)}\nopen {output.resolve()}")


def _summary(record: RunRecord) -> str:
    done = f"{record.step} steps are done"
    if record.best is None:
        return f"{done}, and nothing has been validated yet."
    report, step = record.best.report, record.best.step
    return f"{done}; the best {report.primary} is {percent(report.value)} %, at step {step}."


def _facts(record: RunRecord) -> list[Fact]:
    settings = record.settings
    facts = [
        Fact("model", record.model_name),
        Fact("data", str(settings["data.root"])),
        Fact("steps", f"{record.step}, in epoch {record.epoch + 1}{_of_epochs(record)}"),
        Fact("images a step, on each device", str(settings["data.batch_size"])),
        Fact("optimizer.lr", f"{settings['optimizer.lr']:g}"),
    ]
    if record.seconds is not None:
        facts.append(Fact("time", f"{record.seconds / 60:.1f} min"))
    if record.last is not None:
        report = record.last.report
        words = f"{report.primary} {percent(report.value)} % at step {record.last.step}"
        facts.append(Fact("last validation", words))
    return facts


def _of_epochs(record: RunRecord) -> str:
    epochs = record.settings["trainer.max_epochs"]
    return "" if epochs is None else f" of {epochs}"
