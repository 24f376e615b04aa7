"""Plots are PNG files of sensible size, and the curves of a run are read as they were written."""

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import Report
from ziggurat.metrics.errors import KINDS, ErrorBreakdown, ErrorKind
from ziggurat.visualize.plots import (
    Curve,
    group_curves,
    plot_classes,
    plot_confusion,
    plot_curves,
    plot_errors,
    read_curves,
)


def opened(png: bytes) -> Image.Image:
    assert png.startswith(b"\x89PNG")
    return Image.open(io.BytesIO(png)).convert("RGB")


def report_of(values: list[float | None]) -> Report:
    rows = [{"class": f"class {i}", "AP": value} for i, value in enumerate(values)]
    return Report("AP", {"AP": 0.5}, rows, 4)


@pytest.mark.parametrize("count", [1, 3, 120])
def test_confusion_of_any_number_of_classes(count: int) -> None:
    names = [f"class {index}" for index in range(count)]
    picture = opened(plot_confusion(np.eye(count, dtype=np.int64) * 7, names))
    assert 300 < picture.width < 4000


def test_confusion_of_pixels_says_shares() -> None:
    """Counts of seven digits would not fit a cell."""
    confusion = np.array([[123456789, 1], [5000000, 5000000]], dtype=np.int64)
    pixels, images = (
        opened(plot_confusion(confusion, ["a", "b"], of=of)) for of in ("pixels", "images")
    )
    assert pixels.tobytes() != images.tobytes()
    halved = plot_confusion(confusion // [[2], [1]], ["a", "b"], of="pixels")
    assert opened(halved).tobytes() == pixels.tobytes()


def test_dark_is_dark() -> None:
    light = opened(plot_confusion(np.eye(2, dtype=np.int64), ["a", "b"]))
    dark = opened(plot_confusion(np.eye(2, dtype=np.int64), ["a", "b"], dark=True))
    assert light.getpixel((2, 2)) == (255, 255, 255)
    assert max(dark.getpixel((2, 2))) < 50  # type: ignore[arg-type]


def test_bars_of_few_and_many_classes() -> None:
    few = opened(plot_classes(report_of([0.2, None, 0.9]), "AP"))
    many = opened(plot_classes(report_of([i / 200 for i in range(200)]), "AP"))
    assert few.height < many.height < 2500
    with pytest.raises(ValueError, match="no class of the report has a number 'AP'"):
        plot_classes(report_of([None]), "AP")


@pytest.mark.parametrize("cost", [0.0, 0.4, -0.1, float("nan")])
def test_mistakes_of_boxes_and_masks(cost: float) -> None:
    kinds = tuple(ErrorKind(name, 3, cost) for name in KINDS)
    breakdowns = [ErrorBreakdown(of, 0.5, kinds, 0.5, ()) for of in ("boxes", "masks")]
    assert opened(plot_errors(breakdowns)).width > 600
    assert opened(plot_errors(breakdowns[:1], dark=True)).width > 600
    with pytest.raises(ValueError, match="no breakdown"):
        plot_errors([])


def test_curves_are_read_and_grouped(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(
        "step,epoch,train/loss,train/box,train/lr,train/images_per_second,val/AP,val/AR_1\n"
        "10,0,2.5,1.0,0.1,7.0,,\n"
        "20,0,nan,1.0,0.05,7.0,0.25,0.5\n"
        "30,1,1.5,1.0,0.01,7.0,,\n"
    )
    curves = {curve.name: curve for curve in read_curves(file)}
    assert curves["train/loss"] == Curve("train/loss", [10.0, 30.0], [2.5, 1.5])
    assert curves["val/AP"] == Curve("val/AP", [20.0], [0.25])
    assert "epoch" not in curves
    groups = dict(group_curves(list(curves.values())))
    assert [curve.name for curve in groups["training loss"]] == ["loss", "box"]
    assert groups["validation images (%)"] == [Curve("AP", [20.0], [25.0])]
    assert opened(plot_curves(group_curves(list(curves.values())))).width > 600


def test_a_run_without_an_entry_has_no_curves(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,epoch,train/loss\n")  # all were rewound when it was gone on with
    assert read_curves(file) == []


def test_a_legend_has_the_names_as_they_are() -> None:
    """Runs of different folders may end in the same name."""

    def drawn(first: str, second: str, length: int) -> bytes:
        values = [float(value) for value in range(length)]
        curves = [Curve(name, values, values) for name in (first, second)]
        return opened(plot_curves([("AP (%)", curves)])).tobytes()

    for length in (3, 70):
        assert drawn("a/run", "b/run", length) != drawn("b/run", "a/run", length)
        assert drawn("_base", "run", length) != drawn("_wide", "run", length)


@pytest.mark.parametrize(
    "plot",
    [
        lambda name: plot_confusion(np.eye(2, dtype=np.int64), [name, "b"]),
        lambda name: plot_classes(Report("AP", {}, [{"class": name, "AP": 0.5}], 1), "AP"),
        lambda name: plot_curves([(name, [Curve(name, [0.0, 1.0], [0.0, 1.0])] * 2)]),
    ],
)
@pytest.mark.parametrize("name", ["$1_$5", "a$b$c"])
def test_a_name_with_dollars_is_no_formula(plot: Callable[[str], bytes], name: str) -> None:
    with matplotlib.rc_context({"text.parse_math": False}):
        expected = plot(name)
    assert plot(name) == expected


def test_long_curves_are_smoothed_without_warnings() -> None:
    values = list(np.linspace(3, 1, 500))
    steps = [float(step) for step in range(500)]
    opened(plot_curves([("loss", [Curve("train/loss", steps, values)])], dark=True))


def test_bad_curves(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="cannot be read"):
        read_curves(tmp_path / "absent.csv")
    file = tmp_path / "other.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(ZigguratError, match="no training curves"):
        read_curves(file)
    file.write_text("")
    with pytest.raises(ZigguratError, match="no training curves"):
        read_curves(file)
    with pytest.raises(ValueError, match="no curve"):
        plot_curves([("loss", [])])
