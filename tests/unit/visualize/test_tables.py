"""Tables for the terminal show every number, in percent, with a dash where nothing was counted."""

import io

from rich.console import Console

from ziggurat.metrics.base import ClassRow, Report
from ziggurat.metrics.errors import KINDS, ErrorBreakdown, ErrorKind
from ziggurat.visualize.tables import (
    MAX_CLASS_ROWS,
    class_number,
    class_rows,
    error_rows,
    format_cell,
    percent,
    report_tables,
    row_table,
)


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


def test_sizes_and_mistakes_are_shown() -> None:
    kinds = tuple(ErrorKind(name, 2345, 0.0678) for name in KINDS)
    breakdowns = tuple(ErrorBreakdown(of, 0.5, kinds, 0.5, ()) for of in ("boxes", "masks"))
    report = Report(
        "mask_AP",
        {"AP": 0.2, "mask_AP": 0.1},
        [{"class": "cell", "mask_AP": None}],
        7,
        per_size=[{"size": "tiny", "objects": 5, "AP": 0.25}],
        errors=breakdowns,
    )
    text = shown(report)
    for words in ("tiny", "25.0", "masks: average precision", "mask AP50 lost %", "2 345", "6.8"):
        assert words in text
    assert [row["mistake"] for row in error_rows(report)] == list(KINDS)


def test_worst_classes_by_what_they_have() -> None:
    rows = [{"class": f"class_{i:03}", "VOC_AP": i / 200} for i in range(200)]
    assert "class_199" not in shown(Report("VOC_AP", {"VOC_AP": 0.5}, rows, 7))  # type: ignore[arg-type]
    rows = [{"class": f"class_{i:03}"} for i in range(200)]
    assert "class_000" in shown(Report("other", {"other": 0.5}, rows, 7))  # type: ignore[arg-type]


def test_formats() -> None:
    assert percent(0.12345) == "12.3"
    assert percent(float("nan")) == percent(None) == "–"
    assert format_cell("images", 12) == "12"
    assert format_cell("accuracy", 1.0) == "100.0"
    assert format_cell("class", "cat") == "cat"


def test_classes_of_label_maps_are_sorted_and_absent_ones_left_out() -> None:
    rows = [
        {"class": "sky", "pixels": 1, "IoU": 0.25, "accuracy": 1.0},
        {"class": "ship", "pixels": 0, "IoU": None, "accuracy": None},
        {"class": "sea", "pixels": 5, "IoU": 0.75, "accuracy": 0.8},
    ]
    report = Report("mIoU", {"mIoU": 0.5, "boundary_mIoU": 0.4}, rows, 7)  # type: ignore[arg-type]
    assert [row["class"] for row in class_rows(report)] == ["sea", "sky"]
    assert class_number(report) == "IoU"
    text = shown(report)
    assert "2 of 3 classes occur" in text
    assert "intersection over union" in text
    assert "ship" not in text


def test_where_no_class_occurs_there_is_no_table_of_them() -> None:
    rows = [{"class": name, "pixels": 0, "IoU": None, "accuracy": None} for name in ("sky", "sea")]
    report = Report("mIoU", {"mIoU": float("nan")}, rows, 7)  # type: ignore[arg-type]
    assert "none of 2 classes occurs" in shown(report)


def test_brackets_in_names_are_shown() -> None:
    """The columns of a comparison are named by runs."""
    row: ClassRow = {"setting": "optimizer.lr", "[bold]run": "[red]0.1", "run[/]": ":100:"}
    console = Console(file=io.StringIO(), width=100)
    console.print(row_table("settings", [row]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for word in ("[bold]run", "[red]0.1", "run[/]", ":100:"):
        assert word in text


def test_no_class_has_a_number() -> None:
    rows = [{"class": "cell", "AP": None}]
    assert class_number(Report("AP", {"AP": 0.3}, rows, 7)) is None  # type: ignore[arg-type]
