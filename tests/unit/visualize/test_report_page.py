"""The report page holds everything itself, shows what it is given and escapes it."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ziggurat.errors import ZigguratError
from ziggurat.metrics import base
from ziggurat.metrics.base import Report
from ziggurat.metrics.coco import PREFIXES
from ziggurat.metrics.errors import KINDS, ErrorBreakdown, ErrorKind
from ziggurat.visualize.plots import plot_confusion
from ziggurat.visualize.report import (
    Command,
    Comparison,
    Fact,
    Gallery,
    Plot,
    ReportPage,
    write_report,
)
from ziggurat.visualize.tables import MEANINGS, meaning


class Addresses(HTMLParser):
    """Collects what the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]


def page() -> ReportPage:
    confusion = np.eye(2, dtype=np.int64)
    light, dark = (plot_confusion(confusion, ["a", "b"], dark=dark) for dark in (False, True))
    kinds = tuple(ErrorKind(name, 17, 0.0123) for name in KINDS)
    breakdown = ErrorBreakdown("masks", 0.5, kinds, 0.4, ())
    picture = Image.new("RGB", (900, 600), (200, 30, 30))
    return ReportPage(
        title="A <run>",
        summary="It went & ended.",
        report=Report(
            "AP",
            {"AP": 0.4567, "AP_large": float("nan")},
            [{"class": "<b>cell", "objects": 3, "AP": None}],
            12,
            per_size=[{"size": "tiny", "objects": 31, "AP": 0.1239}],
            errors=(breakdown,),
        ),
        facts=[Fact("machine", "2 cores")],
        plots=[Plot("Confusion", light, dark, "A note.")],
        galleries=[
            Gallery("Worst <images>", "A choice.", [Comparison("photo.jpg", picture, picture)])
        ],
        commands=[Command("Train", "ziggurat train x --data.root y")],
    )


def test_page_shows_what_it_is_given(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_report(file, page())
    html = file.read_text(encoding="utf-8")
    for text in (
        "A &lt;run&gt;",
        "It went &amp; ended.",
        "45.7",
        "12.4",
        "mask AP50 lost %",
        "objects that nothing found",
        "&lt;b&gt;cell",
        "2 cores",
        "A note.",
        "photo.jpg",
        "Worst &lt;images&gt;",
        "A choice.",
        "ziggurat train x --data.root y",
    ):
        assert text in html
    assert "nan" not in re.sub(r"data:image/[^\"]+", "", html)


def test_page_asks_the_network_for_nothing(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_report(file, page())
    html = file.read_text(encoding="utf-8")
    addresses = Addresses()
    addresses.feed(html)
    assert len(addresses.found) == 4
    assert all(address.startswith("data:image/") for address in addresses.found)
    style = re.search(r"<style>(.*)</style>", html, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "<script" not in html


def test_a_difference_and_a_legend_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    picture = Image.new("RGB", (90, 60), (200, 30, 30))
    item = Comparison("photo.jpg", picture, picture, picture, [("<sky>", (1, 2, 3))])
    shown = replace(page(), galleries=[Gallery("Worst images", "", [item])])
    write_report(file, shown)
    html = file.read_text(encoding="utf-8")
    for text in ("<span>difference</span>", "rgb(1,2,3)", "&lt;sky&gt;", "pair triple"):
        assert text in html
    write_report(file, page())
    assert "<span>difference</span>" not in file.read_text(encoding="utf-8")


def test_page_without_extras(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_report(file, ReportPage("Title", "Summary.", Report("top1", {"top1": 1.0}, [], 1)))
    html = file.read_text(encoding="utf-8")
    assert "100.0" in html
    assert "<h2>Classes</h2>" not in html


def primary_numbers() -> set[str]:
    """Names that the metrics and their reports give to the number that decides."""
    folder = Path(base.__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    plain = re.findall(r'(?:\bprimary = |\bReport\()"(\w+)"', source)
    return {*plain, *(f"{prefix}AP" for prefix in PREFIXES.values())}


def test_the_number_that_decides_has_a_tile_and_a_meaning(tmp_path: Path) -> None:
    names = primary_numbers()
    assert names >= {"AP", "mask_AP", "keypoint_AP", "VOC_AP", "Cityscapes_AP", "mIoU", "top1"}
    for name in names:
        file = tmp_path / f"{name}.html"
        write_report(file, ReportPage("Title", "Summary.", Report(name, {name: 0.5}, [], 1)))
        assert "tile primary" in file.read_text(encoding="utf-8"), name
        assert "average precision" in meaning(name) or meaning(name) in MEANINGS.values(), name


def test_names_of_files_that_are_no_utf8(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_report(file, ReportPage("a\udcff.jpg", "Summary."))
    assert "a\\udcff.jpg" in file.read_text(encoding="utf-8")


def test_page_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="cannot be written"):
        write_report(tmp_path / "absent" / "report.html", page())
