"""`ziggurat compare RUN RUN...`: results, settings and curves of several runs side by side."""

import argparse
import json
from pathlib import Path

from ziggurat.cli.console import table_console
from ziggurat.cli.outputs import make_place
from ziggurat.inference.comparison import compare_runs, describe_comparison
from ziggurat.inference.run_record import read_run
from ziggurat.visualize.report import write_report
from ziggurat.visualize.tables import row_table

PIPED_WIDTH = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folders of training runs of one task"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="HTML page with their curves over each other; by default none is written",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> None:
    """Print the tables, and write the page where one is wanted."""
    if args.output is not None:
        make_place(args.output)
    comparison = compare_runs([read_run(path) for path in args.runs])
    if args.json:
        print(json.dumps(comparison.to_json(), indent=2))
    else:
        console = table_console(PIPED_WIDTH)
        console.print(row_table("results", comparison.results))
        if comparison.settings:
            console.print(row_table("settings that differ", comparison.settings))
    if args.output is not None:
        write_report(args.output, describe_comparison(comparison))
        if not args.json:
            print(f"open {args.output.resolve()}")
