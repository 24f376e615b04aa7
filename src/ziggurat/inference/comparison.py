"""Runs side by side: what came out, in what they differ, and their curves in one picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ziggurat.errors import ZigguratError
from ziggurat.inference.run_record import RunRecord
from ziggurat.metrics.base import ClassRow, Report
from ziggurat.visualize.plots import SECONDS, Curve, plot_curves
from ziggurat.visualize.report import Plot, ReportPage
from ziggurat.visualize.tables import percent

LOSS = {"train/loss": "training loss"}
OF_STEPS = {"train/lr": "learning rate", "train/gradient_norm": "norm of the gradients"}
"""What is logged, and its title; the time says nothing of the latter."""
MINUTES = "minutes"


@dataclass(frozen=True)
class RunComparison:
    """Runs of one task side by side.

    Attributes:
        records: The runs.
        names: What they are called: the end of their paths, as long as is needed.
        results: A row for each run.
        settings: A row for each setting in which two of them differ.
    """

    records: Sequence[RunRecord]
    names: Sequence[str]
    results: list[ClassRow]
    settings: list[ClassRow]

    @property
    def primary(self) -> str | None:
        """The number by which they are compared; None before the first validation."""
        reports = [record.best.report for record in self.records if record.best is not None]
        return reports[0].primary if reports else None

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dump` writes."""
        runs = []
        for record, name in zip(self.records, self.names, strict=True):
            best, last = record.best, record.last
            runs.append(
                {
                    "name": name,
                    "path": str(record.path),
                    "step": record.step,
                    "seconds": record.seconds,
                    "best": None if best is None else {"step": best.step, **_numbers(best.report)},
                    "last": None if last is None else {"step": last.step, **_numbers(last.report)},
                }
            )
        return {"primary": self.primary, "runs": runs, "settings": self.settings}


def compare_runs(records: Sequence[RunRecord]) -> RunComparison:
    """Lay runs side by side.

    Args:
        records: Two or more.

    Raises:
        ZigguratError: If there are fewer, one stands twice, or they do different tasks.
    """
    if len(records) < 2:
        raise ZigguratError(f"a comparison needs at least two runs, got {len(records)}")
    paths = [record.path.resolve() for record in records]
    for record, path in zip(records, paths, strict=True):
        if paths.count(path) > 1:
            raise ZigguratError(f"{record.path} is given twice; give each run once")
        if record.settings["task"] != records[0].settings["task"]:
            raise ZigguratError(
                f"{records[0].path} does {records[0].settings['task']} and {record.path} does "
                f"{record.settings['task']}; compare runs of one task"
            )
    names = _short_names([path.parts for path in paths])
    results = [_result(record, name) for record, name in zip(records, names, strict=True)]
    return RunComparison(records, names, _with_all_columns(results), _differences(records, names))


def describe_comparison(comparison: RunComparison) -> ReportPage:
    """Put together the page: tables, and the curves of all runs over each other."""
    tables = [("Results", comparison.results)]
    if comparison.settings:
        tables.append(("Settings that differ", comparison.settings))
    plots = []
    for title, label in (("Over the steps", "optimizer step"), ("Over the time", MINUTES)):
        panels = _panels(comparison, over_time=label == MINUTES)
        if any(curves for _, curves in panels):
            light, dark = (
                plot_curves(panels, x_label=label, dark=is_dark) for is_dark in (False, True)
            )
            plots.append(Plot(title, light, dark))
    return ReportPage(
        title=f"{len(comparison.records)} runs",
        summary=_summary(comparison),
        plots=plots,
        tables=tables,
    )


def _summary(comparison: RunComparison) -> str:
    primary = comparison.primary
    best = [
        (record.best.report.value, name)
        for record, name in zip(comparison.records, comparison.names, strict=True)
        if record.best is not None and not math.isnan(record.best.report.value)
    ]
    if not best:
        return "None of them has been validated yet."
    value, name = max(best)
    return f"The best {primary} is {percent(value)} %, of {name}."


def _result(record: RunRecord, name: str) -> ClassRow:
    speed = record.curves.get("train/images_per_second")
    row: ClassRow = {"run": name, "model": record.model_name}
    if record.best is not None:
        row |= dict(record.best.report.numbers)
        row["best at step"] = record.best.step
    row["steps"] = record.step
    row["minutes"] = None if record.seconds is None else f"{record.seconds / 60:.1f}"
    row["images/s"] = None if speed is None else f"{np.median(speed.values):.1f}"
    return row


def _with_all_columns(rows: list[ClassRow]) -> list[ClassRow]:
    """Give every row the columns of all, in the order of the longest."""
    longest_first = sorted(rows, key=lambda row: -len(row))
    columns = dict.fromkeys(key for row in longest_first for key in row)
    return [{key: row.get(key) for key in columns} for row in rows]


def _differences(records: Sequence[RunRecord], names: Sequence[str]) -> list[ClassRow]:
    rows: list[ClassRow] = []
    for setting in dict.fromkeys(key for record in records for key in record.settings):
        values = [record.settings.get(setting) for record in records]
        if any(value != values[0] for value in values):
            words = ["null" if value is None else str(value) for value in values]
            rows.append({"setting": setting, **dict(zip(names, words, strict=True))})
    return rows


def _panels(comparison: RunComparison, *, over_time: bool) -> list[tuple[str, list[Curve]]]:
    logged = LOSS if over_time else LOSS | OF_STEPS
    wanted = {f"val/{comparison.primary}": f"{comparison.primary} (%)", **logged}
    panels: list[tuple[str, list[Curve]]] = []
    for key, title in wanted.items():
        curves = []
        for record, name in zip(comparison.records, comparison.names, strict=True):
            curve = record.curves.get(key)
            time = record.curves.get(SECONDS)
            if curve is None or (over_time and time is None):
                continue
            factor = 100 if key.startswith("val/") else 1
            values = [factor * value for value in curve.values]
            places = curve.steps
            if over_time and time is not None:
                places = (np.interp(curve.steps, time.steps, time.values) / 60).tolist()
            curves.append(Curve(name, places, values))
        panels.append((title, curves))
    return panels


def _short_names(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """Return as many last parts of the paths as tell them apart."""
    length = 1
    while len({path[-length:] for path in paths}) < len(paths):
        length += 1
    return ["/".join(path[-length:]) for path in paths]


def _numbers(report: Report) -> dict[str, Any]:
    numbers: dict[str, Any] = report.to_json()["metrics"]
    return numbers
