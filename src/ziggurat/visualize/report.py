"""One self-contained HTML page about a training run: numbers, curves, pictures, commands.

Everything is inside the file; it asks the network for nothing and follows the reader's choice of
light or dark.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from PIL import Image

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import ClassRow, Report
from ziggurat.visualize.plots import DOTS_PER_INCH
from ziggurat.visualize.tables import (
    WORDS,
    class_rows,
    error_rows,
    format_cell,
    heading,
    meaning,
    percent,
)

MAX_PICTURE_SIDE = 640
"""Gallery pictures are scaled down to this, in pixels, to keep the page small."""


@dataclass(frozen=True)
class Fact:
    """One thing worth knowing about a run: "training time", "4 min 12 s"."""

    name: str
    value: str


@dataclass(frozen=True)
class Plot:
    """A plot of the page.

    Attributes:
        title: What it shows.
        light: PNG file for a light page.
        dark: PNG file for a dark page.
        note: A sentence below it.
    """

    title: str
    light: bytes
    dark: bytes
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """A prediction beside the truth.

    Attributes:
        title: Name of the image.
        truth: Image with its true objects or class.
        prediction: The same image with what the model found.
        difference: The same image with what is wrong, or None where the two show it.
        legend: Name and colour of what occurs, as R, G, B of 0..255.
    """

    title: str
    truth: Image.Image
    prediction: Image.Image
    difference: Image.Image | None = None
    legend: Sequence[tuple[str, tuple[int, int, int]]] = ()


@dataclass(frozen=True)
class Gallery:
    """Some images, each with its truth beside a prediction.

    Attributes:
        title: What they have in common.
        note: How they were chosen and what is drawn.
        items: The images.
    """

    title: str
    note: str
    items: Sequence[Comparison]


@dataclass(frozen=True)
class _Rows:
    """A table of the page.

    Attributes:
        title: Its heading.
        columns: Heading of each column, and whether it holds words.
        rows: Its cells.
    """

    title: str
    columns: list[tuple[str, bool]]
    rows: list[list[str]]


@dataclass(frozen=True)
class Command:
    """Something to type, and what it does."""

    purpose: str
    text: str


@dataclass(frozen=True)
class ReportPage:
    """What the page shows, from top to bottom.

    Attributes:
        title: Heading of the page.
        summary: What came out, in a sentence or two.
        report: The numbers, or None where nothing is measured yet.
        facts: Model, data, time and machine.
        plots: Curves, bars and matrices.
        galleries: Predictions beside the truth.
        commands: How to repeat it.
        tables: Title and rows of tables that stand before the plots.
    """

    title: str
    summary: str
    report: Report | None = None
    facts: Sequence[Fact] = ()
    plots: Sequence[Plot] = ()
    galleries: Sequence[Gallery] = ()
    commands: Sequence[Command] = ()
    tables: Sequence[tuple[str, Sequence[ClassRow]]] = ()


def write_report(path: Path, page: ReportPage) -> None:
    """Write the page.

    What is no UTF-8 in the name of a file is written as an escape.

    Args:
        path: HTML file; its folder must exist.
        page: What it shows.

    Raises:
        ZigguratError: If the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ziggurat", "visualize"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "png": _png_uri,
        "png_width": _png_width,
        "picture": _picture_uri,
    }
    tables: list[tuple[str, Sequence[ClassRow]]] = []
    if page.report is not None:
        tables = [
            ("Sizes", page.report.per_size),
            ("Mistakes", error_rows(page.report)),
            ("Classes", class_rows(page.report)),
        ]
    html = environment.get_template("report.html").render(
        page=page,
        report=page.report,
        meaning=meaning,
        first_tables=[_table(title, rows) for title, rows in page.tables],
        tables=[_table(title, rows) for title, rows in tables if rows],
    )
    try:
        path.write_text(html, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ZigguratError(
            f"the report page cannot be written to {path}: {error.strerror}; choose another folder"
        ) from error


def _table(title: str, rows: Sequence[ClassRow]) -> _Rows:
    columns = [(heading(key, rows), key in WORDS) for key in rows[0]]
    cells = [[format_cell(key, value) for key, value in row.items()] for row in rows]
    return _Rows(title, columns, cells)


def _png_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _png_width(content: bytes) -> int:
    # A page has 96 pixels an inch.
    return round(Image.open(io.BytesIO(content)).width * 96 / DOTS_PER_INCH)


def _picture_uri(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((MAX_PICTURE_SIDE, MAX_PICTURE_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
