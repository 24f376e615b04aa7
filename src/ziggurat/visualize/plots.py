"""Plots as PNG bytes: confusion matrix, training curves, bars of each class.

Figures are drawn without pyplot, so that nothing is left behind in the process; each one exists in
a light and in a dark version, for pages that follow the reader's setting.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import Report
from ziggurat.metrics.errors import ErrorBreakdown

MAX_NAMED_CLASSES = 100
"""Above this, names at the sides of a confusion matrix could not be read at any zoom."""
MAX_CELL_NUMBERS = 25
"""Up to this many classes the cells of a confusion matrix show their number."""
MAX_BARS = 30
"""With more classes only the best and the worst half of this many are shown as bars."""
_CURVES = (
    *("AP", "AP50", "AP75", "mask_AP", "mask_AP50", "keypoint_AP", "keypoint_AP50"),
    *("mIoU", "aAcc", "mAcc", "top1", "top5"),
)
"""What of the validations of a run is drawn."""
_NO_LOSS = {
    "train/lr": "learning rate",
    "train/gradient_norm": "norm of the gradients",
    "train/images_per_second": "images per second",
}
"""What is logged beside the losses and has a panel of its own."""
SECONDS = "train/seconds"
"""Time that a run has taken, which other curves can be drawn over."""
PANELS_IN_A_ROW = {1: 1, 2: 2, 4: 2}
"""By the number of panels; of others three."""
DOTS_PER_INCH = 160
"""Pixels of a PNG; shown at 96 an inch, letters have the size of a page's own."""


@dataclass(frozen=True)
class _Style:
    paper: str
    ink: str
    strong_ink: str
    faint: str
    series: tuple[str, ...]
    ramp: tuple[str, str, str]


_LIGHT = _Style(
    paper="#ffffff",
    ink="#1f2430",
    strong_ink="#ffffff",
    faint="#d9dde5",
    series=("#2563eb", "#d97706", "#059669", "#c026d3", "#dc2626", "#0891b2"),
    ramp=("#f7f9fc", "#7fb0f5", "#123a85"),
)
_DARK = _Style(
    paper="#1b1e25",
    ink="#e6e8ee",
    strong_ink="#10131a",
    faint="#383d49",
    series=("#60a5fa", "#fbbf24", "#34d399", "#e879f9", "#f87171", "#22d3ee"),
    ramp=("#20242d", "#2f63b5", "#a9cdff"),
)


def plot_confusion(
    confusion: Int[np.ndarray, "K K"],
    classes: Sequence[str],
    *,
    of: Literal["images", "pixels"] = "images",
    dark: bool = False,
) -> bytes:
    """Draw the confusion matrix: a row is a true class, its colours the share of its images.

    Pixels are so many that the cells say their share in percent instead of their number.

    Args:
        confusion: Images or pixels of true class (row) by predicted class (column).
        classes: Names of the K classes.
        of: What was counted.
        dark: Light letters on a dark ground.

    Returns:
        A PNG file.
    """
    style = _DARK if dark else _LIGHT
    count = len(classes)
    is_named = count <= MAX_NAMED_CLASSES
    if count <= MAX_CELL_NUMBERS:
        side = max(2.8, 0.55 * count)
    else:
        side = 0.21 * count if is_named else 9.0
    figure = Figure(figsize=(side + 2.2, side + 1.6), facecolor=style.paper, layout="constrained")
    axes = figure.add_subplot()
    totals = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(totals, 1)
    ramp = LinearSegmentedColormap.from_list("ramp", style.ramp)
    # The square root keeps rare confusions visible beside a strong diagonal.
    scale = PowerNorm(0.5, vmin=0, vmax=1)
    picture = axes.imshow(shares, cmap=ramp, norm=scale, interpolation="nearest")
    small = 9 if count <= MAX_CELL_NUMBERS else 7
    if is_named:
        names = [_short(name, 24) for name in classes]
        axes.set_xticks(range(count), names, rotation=90, fontsize=small)
        axes.set_yticks(range(count), names, fontsize=small)
    if count <= MAX_CELL_NUMBERS:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            share = shares[row, column]
            ink = style.strong_ink if share > 0.4 else style.ink
            number = f"{confusion[row, column]:d}" if of == "images" else _share(share)
            axes.text(column, row, number, ha="center", va="center", color=ink, fontsize=small)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, aspect=30, pad=0.02)
    bar.set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    bar.set_label(f"share of the true class's {of}", color=style.ink)
    bar.ax.tick_params(colors=style.ink, length=0)
    bar.outline.set_visible(False)
    _dress(axes, style, grid=False)
    return _to_png(figure)


def plot_classes(report: Report, number: str, *, dark: bool = False) -> bytes:
    """Draw a bar for each class, best first; of many classes only the best and the worst.

    Args:
        report: What an evaluation found.
        number: Key of the rows that is drawn: "AP", "accuracy".
        dark: Light letters on a dark ground.

    Returns:
        A PNG file.

    Raises:
        ValueError: If no class has the number.
    """
    style = _DARK if dark else _LIGHT
    values = []
    for row in report.per_class:
        value = row.get(number)
        if isinstance(value, int | float):
            values.append((float(value), str(row["class"])))
    if not values:
        raise ValueError(f"no class of the report has a number {number!r}")
    values.sort(reverse=True)
    title = f"{number} of each class"
    if len(values) > MAX_BARS:
        half = MAX_BARS // 2
        title = f"{number}: the best and the worst {half} of {len(values)} classes"
        values = values[:half] + values[-half:]
    height = 0.27 * len(values) + 1.1
    figure = Figure(figsize=(7.4, height), facecolor=style.paper, layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(values))
    axes.barh(places, [100 * value for value, _ in values], height=0.72, color=style.series[0])
    for place, (value, _) in enumerate(values):
        words = f"{100 * value:.1f}"
        axes.text(100 * value + 1, place, words, va="center", color=style.ink, fontsize=9)
    axes.set_yticks(places, [_short(name, 28) for _, name in values], fontsize=9)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlim(0, 110)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel(f"{number} (%)")
    axes.set_title(title, fontsize=11)
    _dress(axes, style, grid=False)
    return _to_png(figure)


def plot_errors(errors: Sequence[ErrorBreakdown], *, dark: bool = False) -> bytes:
    """Draw what each kind of mistake costs, for boxes and for masks.

    Args:
        errors: One or two breakdowns.
        dark: Light letters on a dark ground.

    Returns:
        A PNG file.

    Raises:
        ValueError: If there is no breakdown.
    """
    if not errors:
        raise ValueError("there is no breakdown of mistakes to plot")
    style = _DARK if dark else _LIGHT
    names = [kind.name for kind in errors[0].kinds]
    figure = Figure(figsize=(7.4, 3.4), facecolor=style.paper, layout="constrained")
    axes = figure.add_subplot()
    height = 0.72 / len(errors)
    highest = 1.0
    for index, breakdown in enumerate(errors):
        places = np.arange(len(names)) + (index - (len(errors) - 1) / 2) * height
        costs = [0.0 if math.isnan(kind.cost) else 100 * kind.cost for kind in breakdown.kinds]
        axes.barh(places, costs, height=height, color=style.series[index], label=breakdown.of)
        highest = max(highest, *costs)
        for place, cost, kind in zip(places, costs, breakdown.kinds, strict=True):
            words = f" {cost:.1f}  ({kind.count} x)"
            axes.text(max(cost, 0), place, words, va="center", color=style.ink, fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    # Putting one kind right may cost others a little; room for the words at the right.
    axes.set_xlim(right=1.25 * highest)
    axes.set_xlabel("AP50 lost (%)")
    if len(errors) > 1:
        axes.legend(fontsize=9, frameon=False, labelcolor=style.ink, loc="lower right")
    _dress(axes, style, grid=False)
    return _to_png(figure)


@dataclass(frozen=True)
class Curve:
    """One quantity over a training run.

    Attributes:
        name: Its column in the file of the run.
        steps: Optimizer steps at which it was written.
        values: Its value at each of them.
    """

    name: str
    steps: list[float]
    values: list[float]


def read_curves(path: Path) -> list[Curve]:
    """Read a run's `metrics.csv`: a column `step` and one a quantity, empty where not written.

    Args:
        path: The file.

    Returns:
        None at all where there is no entry yet, as after a resume from before the first one.

    Raises:
        ZigguratError: If it cannot be read or has no column `step`.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows, names = list(table), table.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ZigguratError(
            f"the training curves {path} cannot be read ({error}): expected a run's metrics.csv"
        ) from error
    if "step" not in names:
        raise ZigguratError(
            f"{path} holds no training curves: expected a table with a column 'step', as "
            "`ziggurat train` writes it"
        )
    curves = []
    for name in names:
        if name in ("step", "epoch"):
            continue
        points = [(_number(row["step"]), _number(row[name])) for row in rows]
        points = [point for point in points if all(map(math.isfinite, point))]
        if points:
            steps, values = zip(*points, strict=True)
            curves.append(Curve(name, list(steps), list(values)))
    return curves


def group_curves(curves: Sequence[Curve]) -> list[tuple[str, list[Curve]]]:
    """Sort a run's curves into panels: losses, validation, learning rate, gradients and speed.

    Args:
        curves: All curves of the run, named as `ziggurat train` names them.

    Returns:
        Title and curves of each panel, for `plot_curves`, losses and measured numbers without
        "train/" and "val/"; what was measured is in percent.
    """
    by_name = {curve.name: curve for curve in curves}
    no_loss = {*_NO_LOSS, SECONDS}
    losses = [
        replace(curve, name=curve.name.removeprefix("train/"))
        for curve in curves
        if curve.name.startswith("train/") and curve.name not in no_loss
    ]
    measured = [
        Curve(name, by_name[f"val/{name}"].steps, [100 * v for v in by_name[f"val/{name}"].values])
        for name in _CURVES
        if f"val/{name}" in by_name
    ]
    others = [
        (title, [by_name[name]] if name in by_name else []) for name, title in _NO_LOSS.items()
    ]
    return [("training loss", losses), ("validation images (%)", measured), *others]


def plot_curves(
    groups: Sequence[tuple[str, Sequence[Curve]]],
    *,
    x_label: str = "optimizer step",
    dark: bool = False,
) -> bytes:
    """Draw curves, by default over the optimizer steps, a panel for each group.

    Args:
        groups: Title of a panel and its curves; several have a legend of their names, and groups
            without curves are left out.
        x_label: What the steps of the curves are.
        dark: Light letters on a dark ground.

    Returns:
        A PNG file.

    Raises:
        ValueError: If there is no curve at all.
    """
    style = _DARK if dark else _LIGHT
    panels = [(title, curves) for title, curves in groups if curves]
    if not panels:
        raise ValueError("there is no curve to plot")
    columns = PANELS_IN_A_ROW.get(len(panels), 3)
    rows = -(-len(panels) // columns)
    size = (min(5.2 * columns, 10.6), 3.3 * rows)
    figure = Figure(figsize=size, facecolor=style.paper, layout="constrained")
    for place, (title, curves) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place)
        lines = []
        for index, curve in enumerate(curves):
            lines.append(_draw_curve(axes, curve, style.series[index % len(style.series)]))
        axes.set_title(title, fontsize=11)
        axes.set_xlabel(x_label, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        axes.yaxis.get_offset_text().set_color(style.ink)
        axes.margins(x=0.02)
        if len(curves) > 1:
            names = [""] * len(lines)
            legend = axes.legend(lines, names, fontsize=9, frameon=False, labelcolor=style.ink)
            # Given at once, matplotlib would drop a name that begins with "_".
            for text, curve in zip(legend.get_texts(), curves, strict=True):
                text.set_text(curve.name)
        _dress(axes, style, grid=True)
    return _to_png(figure)


def _draw_curve(axes: Axes, curve: Curve, colour: str) -> Line2D:
    if len(curve.values) <= 60:
        return axes.plot(curve.steps, curve.values, color=colour, marker="o", markersize=3)[0]
    # Many noisy points: faint themselves, with their running mean in front.
    kernel = np.ones(max(3, len(curve.values) // 30))
    counts = np.convolve(np.ones(len(curve.values)), kernel, "same")
    mean = np.convolve(curve.values, kernel, "same") / counts
    axes.plot(curve.steps, curve.values, color=colour, alpha=0.25, linewidth=0.8)
    return axes.plot(curve.steps, mean, color=colour, linewidth=1.8)[0]


def _share(value: float) -> str:
    """Word a share in percent: few digits fit a cell, and what is next to nothing is left out."""
    percent = 100 * value
    if percent < 0.05:
        return ""
    return f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"


def _dress(axes: Axes, style: _Style, *, grid: bool) -> None:
    axes.set_facecolor(style.paper)
    axes.tick_params(colors=style.ink, length=0, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(style.ink)
    if grid:
        axes.grid(color=style.faint, linewidth=0.7)
        axes.set_axisbelow(True)


def _to_png(figure: Figure) -> bytes:
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a name with two "$" is no formula
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.15)
    return buffer.getvalue()


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
