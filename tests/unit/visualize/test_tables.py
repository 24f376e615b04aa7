"""Tables for the terminal show every number, in percent, with a dash where nothing was counted."""

import io

from rich.console import Console

from ziggurat.metrics.base import Report
from ziggurat.visualize.tables import MAX_CLASS_ROWS, format_cell, percent, report_tables


def shown(report: Report) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(report_tables(report))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_numbers_and_classes_are_shown() -> None:
    rows = [
        {"class": "[red]cell", "objects": 1234, "AP": 0.3333},
        {"class": "star", "objects": 0, "AP": None},
    ]
    text = shown(Report("AP", {"AP": 0.3333, "AP_small": float("nan")}, rows, 7))  # type: ignore[arg-type]
    assert "7 images" in text
    assert "33.3" in text
    assert "[red]cell" in text
    assert "1 234" in text
    assert "below 32 x 32" in text
    assert "–" in text
    assert "nan" not in text


def test_of_very_many_classes_the_worst_are_shown() -> None:
    rows = [{"class": f"class_{i:03}", "accuracy": i / 200} for i in range(200)]
    text = shown(Report("top1", {"top1": 0.5}, rows, 7))  # type: ignore[arg-type]
    assert f"the worst {MAX_CLASS_ROWS} of 200" in text
    assert "class_000" in text
    assert "class_199" not in text


def test_formats() -> None:
    assert percent(0.12345) == "12.3"
    assert percent(float("nan")) == percent(None) == "–"
    assert format_cell("images", 12) == "12"
    assert format_cell("accuracy", 1.0) == "100.0"
    assert format_cell("class", "cat") == "cat"
