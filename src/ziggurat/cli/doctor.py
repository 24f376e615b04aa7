"""`ziggurat doctor`: a minute of checks before a long run; takes what `ziggurat train` takes."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ziggurat.cli.console import table_console
from ziggurat.cli.train import add_run_arguments, named_source, overrides, refuse_nameless
from ziggurat.config.files import load_run
from ziggurat.data.findings import plural
from ziggurat.doctor.findings import Diagnosis, Verdict
from ziggurat.errors import ZigguratError

COLOURS: dict[Verdict, str] = {
    "error": "bold red",
    "warning": "yellow",
    "not run": "dim",
    "ok": "green",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb, and every field of every kind of run."""
    parser.usage = (
        "ziggurat doctor RECIPE | --config FILE [--minutes N] [--json] [--SECTION.FIELD VALUE ...]"
    )
    parser.add_argument(
        "--minutes", type=float, default=1.0, metavar="N", help="time for all checks (1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_run_arguments(parser, "doctor")


def run(args: argparse.Namespace) -> None:
    """Examine the run and print what was found.

    Raises:
        ZigguratError: If the run is not clear, cannot be opened, or has errors.
    """
    from ziggurat.doctor.examine import examine

    source = named_source(args)
    if source is None:
        refuse_nameless(args, "doctor")
    config = load_run(source, overrides(args))
    with _progress() as show:
        diagnosis = examine(config, source, minutes=args.minutes, on_progress=show)
    if args.json:
        print(json.dumps(diagnosis.to_json(), indent=2))
    else:
        _print(diagnosis)
    errors = diagnosis.having("error")
    if errors:
        raise ZigguratError(
            f"this run has {plural(len(errors), 'error')}, named above; begin with "
            f"{errors[0].check}: {errors[0].fix}"
        )
    if not args.json:
        print(_next_step(diagnosis, source))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Say on the error stream which check is at work.

    Yields:
        What is told its name.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda name: print(f"checking {name}", file=sys.stderr, flush=True)
        return
    with console.status("checking") as status:
        yield lambda name: status.update(f"checking {name}")


def _print(diagnosis: Diagnosis) -> None:
    console = table_console(piped_width=160)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("measured", ratio=3)
    table.add_column("what to do", ratio=2)
    for finding in diagnosis.findings:
        table.add_row(
            finding.verdict,
            *(escape(text) for text in (finding.check, finding.evidence, finding.fix)),
            style=COLOURS[finding.verdict] if finding.verdict != "ok" else None,
        )
    console.print(table)
    print(f"{diagnosis.summary()}, in {diagnosis.seconds:.0f} s")


def _next_step(diagnosis: Diagnosis, source: str | Path) -> str:
    warnings = diagnosis.having("warning")
    train = f"`ziggurat train {source if isinstance(source, str) else f'--config {source}'} ...`"
    if warnings:
        return f"next: look at {warnings[0].check}: {warnings[0].fix}; or begin with {train}"
    if diagnosis.having("not run"):
        return f"next: give more --minutes for what was not run, or begin with {train}"
    return f"next: begin with {train}"
