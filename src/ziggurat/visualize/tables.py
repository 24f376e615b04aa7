"""Reports as tables for the terminal, and the words and number formats that pages share."""

import math
from collections.abc import Sequence
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ziggurat.metrics.base import ClassRow, Report
from ziggurat.metrics.errors import MEANINGS as MEANINGS_OF_ERRORS

MEANINGS: dict[str, str] = {
    "top1": "the most probable class is the true one",
    "top5": "the true class is among the five most probable",
    "AP": "average precision, mean over IoU 0.50 to 0.95",
    "AP50": "average precision at IoU 0.50",
    "AP75": "average precision at IoU 0.75",
    "AP_small": "AP of objects below 32 x 32 pixels",
    "AP_medium": "AP of objects from 32 x 32 to 96 x 96 pixels",
    "AP_large": "AP of objects above 96 x 96 pixels",
    "AR": "average recall, mean over IoU 0.50 to 0.95",
    "AR50": "recall at IoU 0.50",
    "AR75": "recall at IoU 0.75",
    "AR_1": "recall with 1 detection an image",
    "AR_10": "recall with 10 detections an image",
    "AR_100": "recall with 100 detections an image",
    "AR_small": "recall of objects below 32 x 32 pixels",
    "AR_medium": "recall of objects from 32 x 32 to 96 x 96 pixels",
    "AR_large": "recall of objects above 96 x 96 pixels",
    "VOC_AP": "average precision of Pascal VOC since 2010: area below the curve, IoU 0.50",
    "VOC07_AP": "average precision of Pascal VOC 2007: mean at eleven recalls, IoU 0.50",
    "Cityscapes_AP": "average precision of masks by Cityscapes' rules, mean over IoU 0.50 to 0.95",
    "Cityscapes_AP50": "average precision of masks by Cityscapes' rules at IoU 0.50",
    "mIoU": "intersection over union, mean over the classes that occur",
    "mAcc": "share of a class's pixels that are right, mean over the classes that occur",
    "aAcc": "share of all labelled pixels that are right",
    "mDice": "Dice coefficient, mean over the classes that occur",
    "boundary_mIoU": "IoU of what is within 2 % of the diagonal of a contour, mean over classes",
    "mIoU_all": "mIoU over all classes, one that does not occur counting 0 (ADE20K's own rule)",
}
"""What each number of a report says; `meaning` knows those of masks and keypoints, too."""
_OF_MASKS = "mask_"
_OF_KEYPOINTS = "keypoint_"

_OF_CLASSES = ("IoU", "accuracy", "class")
"""What orders the classes of a report whose primary number no single class has."""
WORDS = ("class", "mistaken_for", "size", "mistake", "meaning", "run", "model", "setting")
"""Keys of rows that hold words."""
MAX_CLASS_ROWS = 100
"""With more classes the terminal shows the worst ones only; the JSON file has all."""


def meaning(name: str) -> str:
    """Return what a number of a report says.

    Args:
        name: Name of the number; of an unknown one nothing is said.
    """
    if name.startswith(_OF_MASKS):
        return f"masks: {MEANINGS.get(name.removeprefix(_OF_MASKS), '')}"
    if name.startswith(_OF_KEYPOINTS):
        of_boxes = MEANINGS.get(name.removeprefix(_OF_KEYPOINTS), "")
        return f"keypoints: {of_boxes.replace('IoU', 'OKS')}"
    return MEANINGS.get(name, "")


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
    if "setting" in rows[0]:  # the other columns are runs, whose names stay as they are
        return key
    is_share = any(isinstance(row[key], float) for row in rows)
    return key.replace("_", " ") + (" %" if is_share else "")


def error_rows(report: Report) -> list[ClassRow]:
    """Return a row for each kind of mistake: how many there are and the AP50 that they cost.

    Args:
        report: What an evaluation found; without a breakdown there are no rows.
    """
    rows: list[ClassRow] = []
    for places in zip(*(breakdown.kinds for breakdown in report.errors), strict=True):
        row: ClassRow = {"mistake": places[0].name}
        for breakdown, kind in zip(report.errors, places, strict=True):
            prefix = _OF_MASKS if breakdown.of == "masks" else ""
            row[f"{prefix}count"] = kind.count
            row[f"{prefix}AP50 lost"] = kind.cost
        row["meaning"] = MEANINGS_OF_ERRORS[places[0].name]
        rows.append(row)
    return rows


def class_number(report: Report) -> str | None:
    """Return the key of the number by which classes are compared, None where no row has one.

    Args:
        report: What an evaluation found.
    """
    for key in (report.primary, *_OF_CLASSES):
        if any(isinstance(row.get(key), int | float) for row in report.per_class):
            return key
    return None


def class_rows(report: Report) -> list[ClassRow]:
    """Return the rows of the classes that are shown.

    Those of label maps are the classes that occur, the best first; the JSON file has all.

    Args:
        report: What an evaluation found.
    """
    rows = list(report.per_class)
    if not rows or "IoU" not in rows[0]:
        return rows
    present = [row for row in rows if row["IoU"] is not None]
    return sorted(present, key=lambda row: -_value(row, "IoU", absent=0.0))


def report_tables(report: Report) -> RenderableType:
    """Return all tables of a report for `rich.console.Console.print`."""
    parts: list[RenderableType] = [_numbers(report)]
    mistakes = error_rows(report)
    if len(report.errors) > 1:  # a terminal has no room for more than their numbers
        mistakes = [{k: v for k, v in row.items() if k != "meaning"} for row in mistakes]
    for title, rows in (
        ("sizes of objects", report.per_size),
        ("mistakes and what they cost", mistakes),
    ):
        if rows:
            parts += [Text(""), row_table(title, rows)]
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
        table.add_row(name, percent(value), meaning(name), style=style)
    return table


def _classes(report: Report) -> RenderableType:
    rows, title = class_rows(report), f"{len(report.per_class)} classes"
    if not rows:
        return Text(f"none of {title} occurs")
    if len(rows) < len(report.per_class):
        title = f"{len(rows)} of {title} occur"
    if len(rows) > MAX_CLASS_ROWS:
        number = class_number(report) or "class"
        rows = sorted(rows, key=lambda row: _value(row, number, absent=math.inf))[:MAX_CLASS_ROWS]
        title = f"the worst {MAX_CLASS_ROWS} of {title}"
    return row_table(title, rows)


def row_table(title: str, rows: Sequence[ClassRow]) -> Table:
    """Return rows with the same keys as a table for `rich.console.Console.print`.

    Args:
        title: Its heading.
        rows: At least one.
    """
    table = Table(title=title, title_justify="left")
    for key in rows[0]:
        justify: Literal["left", "right"] = "left" if key in WORDS else "right"
        # As `Text`: rich would take brackets in a name for markup.
        table.add_column(Text(heading(key, rows)), justify=justify)
    for row in rows:
        table.add_row(*(Text(format_cell(key, value)) for key, value in row.items()))
    return table


def _value(row: ClassRow, number: str, *, absent: float) -> float:
    value = row[number]
    return float(value) if isinstance(value, int | float) else absent
