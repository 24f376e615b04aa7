"""What the folder of a run tells, after the run and while it goes on."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ziggurat.config.files import load_run, run_to_tree
from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation import RUN_FILE
from ziggurat.metrics.base import Report
from ziggurat.visualize.plots import SECONDS, Curve, read_curves

METRICS_FILE = "metrics.json"
CURVES_FILE = "metrics.csv"


@dataclass(frozen=True)
class Validated:
    """A validation of a run.

    Attributes:
        step: Optimizer steps that were done.
        report: What was measured.
    """

    step: int
    report: Report


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it.

    Attributes:
        path: The folder.
        settings: Value of each field of the run, as "optimizer.lr".
        curves: Every quantity that was logged.
        step: Optimizer steps of the last entry; 0 before the first.
        epoch: Whole passes over the data that are done.
        best: The best validation, or None before the first.
        last: The last one, likewise.
    """

    path: Path
    settings: dict[str, Any]
    curves: dict[str, Curve]
    step: int
    epoch: int
    best: Validated | None
    last: Validated | None

    @property
    def model_name(self) -> str:
        """The model as the run names it, with the parts that it chooses."""
        parts = [self.settings[f"model.{key}"] for key in ("name", "backbone", "neck")]
        return " ".join(part for part in parts if part is not None)

    @property
    def seconds(self) -> float | None:
        """Time that the run has taken, resumed parts together; None before the first entry."""
        curve = self.curves.get(SECONDS)
        return None if curve is None else curve.values[-1]


def read_run(path: Path) -> RunRecord:
    """Read the folder of a run.

    Args:
        path: The folder.

    Raises:
        ZigguratError: If it is none, or a file in it cannot be read.
    """
    if not (path / RUN_FILE).is_file():
        raise ZigguratError(
            f"{path} is no folder of a run: there is no {RUN_FILE} in it; give a folder that "
            "`ziggurat train` wrote"
        )
    tree = run_to_tree(load_run(path / RUN_FILE))
    settings = {"task": tree.pop("task")}
    for section, fields in tree.items():
        settings |= {f"{section}.{name}": value for name, value in fields.items()}
    curves, step, epoch = _read_curves(path / CURVES_FILE)
    best, last = _read_metrics(path / METRICS_FILE)
    return RunRecord(path, settings, curves, step, epoch, best, last)


def _read_curves(path: Path) -> tuple[dict[str, Curve], int, int]:
    if not path.is_file():
        return {}, 0, 0
    curves = {curve.name: curve for curve in read_curves(path)}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    step = max((int(curve.steps[-1]) for curve in curves.values()), default=0)
    epochs = [int(row["epoch"]) for row in rows if (row.get("epoch") or "").isdecimal()]
    return curves, step, max(epochs, default=0)


def _read_metrics(path: Path) -> tuple[Validated | None, Validated | None]:
    if not path.is_file():
        return None, None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        best, last = (
            Validated(entry["step"], Report.from_json(entry))
            for entry in (record["best"], record["last"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZigguratError(
            f"{path} cannot be read ({type(error).__name__}: {error}): expected the validations "
            "of a run as `ziggurat train` writes them"
        ) from error
    return best, last
