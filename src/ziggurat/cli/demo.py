"""`ziggurat demo`: train and evaluate a detector on built-in data, one page at the end."""

import argparse
import math
from pathlib import Path

from ziggurat.cli.outputs import free_name
from ziggurat.errors import ZigguratError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="new folder for data, run and page (demo, or demo_2 and so on where that exists)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=4.7,
        metavar="M",
        help="time for the training at most (4.7)",
    )


def run(args: argparse.Namespace) -> None:
    """Run the demo and say where the page is.

    Raises:
        ZigguratError: If the time is not positive, the folder is not new, or training is not
            installed.
    """
    if not 0 < args.minutes < math.inf:
        raise ZigguratError(f"--minutes must be a number above 0, got {args.minutes}")
    try:
        from ziggurat.demo import run_demo
    except ModuleNotFoundError as error:
        raise ZigguratError(
            f"the demo trains and needs {error.name}, which is not installed; "
            "run `pip install 'ziggurat[train]'`"
        ) from error
    output = free_name(Path("demo")) if args.output is None else args.output
    result = run_demo(output, minutes=args.minutes, say=lambda line: print(line, flush=True))
    numbers = result.report.numbers
    print(
        f"\nAP50 {100 * numbers['AP50']:.1f} %, AP {100 * numbers['AP']:.1f} % on held-back images"
        f"\nopen {result.page.resolve()}"
    )
