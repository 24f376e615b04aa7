"""Reports as tables for the terminal, and the words and number formats that pages share."""

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ziggurat.metrics.base import ClassRow, Report

MEANINGS: dict[str, str] = {
    "top1": "the most probable class is the true one",
    "top5": "the true class is among the five most probable",
    "AP": "average precision, mean over IoU 0.50 to 0.95",
    "AP50": "average precision at IoU 0.50",
    "AP75": "average precision at IoU 0.75",
    "AP_small": "AP of objects below 32 x 32 pixels",
    "AP_medium": "AP of objects from 32 x 32 to 96 x 96 pixels",
    "AP_large": "AP of objects above 96 x 96 pixels",
    "AR_1": "recall with 1 detection an image",
    "AR_10": "recall with 10 detections an image",
    "AR_100": "recall with 100 detections an image",
    "AR_small": "recall of objects below 32 x 32 pixels",
    "AR_medium": "recall of objects from 32 x 32 to 96 x 96 pixels",
    "AR_large": "recall of objects above 96 x 96 pixels",
}
"""What each number of a report says."""

MAX_CLASS_ROWS = 100
"""With more classes the terminal shows the worst ones only; the JSON file has all."""


def percent(value: float | None) -> str:
    """Write a fraction in percent with one decimal, or a dash where nothing was counted."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def format_cell(key: str, value: str | int | float | None) -> str:
    """Write a value of a class row: counts as they are, fractions in percent.

    Args:
        key: Key of the row.
        value: Its value.
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        return percent(value)
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else value


def heading(key: str, rows: Sequence[ClassRow]) -> str:
    """Return the heading of a column of class rows, with % where it holds fractions."""
    is_share = any(isinstance(row[key], float) for row in rows)
    return key.replace("_", " ") + (" %" if is_share else "")


def report_tables(report: Report) -> RenderableType:
    """Return the numbers and the classes of a report for `rich.console.Console.print`."""
    parts: list[RenderableType] = [_numbers(report)]
    if report.per_class:
        parts += [Text(""), _classes(report)]
    return Group(*parts)


def _numbers(report: Report) -> Table:
    table = Table(title=f"{report.num_images} images", title_justify="left")
    table.add_column("number")
    table.add_column("%", justify="right")
    table.add_column("meaning", style="dim")
    for name, value in report.numbers.items():
        style = "bold" if name == report.primary else ""
        table.add_row(name, percent(value), MEANINGS.get(name, ""), style=style)
    return table


def _classes(report: Report) -> Table:
    rows, title = report.per_class, f"{len(report.per_class)} classes"
    if len(rows) > MAX_CLASS_ROWS:
        number = "AP" if "AP" in rows[0] else "accuracy"
        rows = sorted(rows, key=lambda row: _value(row, number))[:MAX_CLASS_ROWS]
        title = f"the worst {MAX_CLASS_ROWS} of {len(report.per_class)} classes"
    table = Table(title=title, title_justify="left")
    for key in rows[0]:
        is_word = key in ("class", "mistaken_for")
        table.add_column(heading(key, rows), justify="left" if is_word else "right")
    for row in rows:
        table.add_row(*(escape(format_cell(key, value)) for key, value in row.items()))
    return table


def _value(row: ClassRow, number: str) -> float:
    value = row[number]
    return float(value) if isinstance(value, int | float) else math.inf
