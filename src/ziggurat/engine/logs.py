"""metrics.csv: one row a log entry, empty where a quantity was not written; kept over resumes."""

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from ziggurat.checkpoints.atomic import atomic_write


class CsvLog(Logger):
    """Appends rows with `step` and `epoch` first.

    Lightning's own CSV logger deletes the file of the run that it resumes.

    Args:
        path: File to write.
        resume: Whether the rows that are there stay.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        super().__init__()
        self.path = path
        self.columns = ["step", "epoch"]
        self.rows: list[dict[str, Any]] = []
        if resume and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self.columns = list(reader.fieldnames or self.columns)
                self.rows = list(reader)

    def rewind(self, step: int) -> None:
        """Take rows out that the run will write again.

        Args:
            step: Step the run goes on from.
        """
        kept = [row for row in self.rows if int(row["step"]) <= step]
        if len(kept) < len(self.rows):
            self.rows = kept
            self._rewrite()

    @property
    def name(self) -> str:
        """Name of the log."""
        return "csv"

    @property
    def version(self) -> str:
        """There is one log a run."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Do nothing: run.yaml holds the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | int], step: int | None = None) -> None:
        """Add a row.

        Args:
            metrics: Quantities by name.
            step: Optimizer steps done.
        """
        row = {"step": step, **metrics}
        unknown = [name for name in row if name not in self.columns]
        self.columns += unknown
        self.rows.append(row)
        if unknown or len(self.rows) == 1 or not self.path.is_file():
            self._rewrite()
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    def _rewrite(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        content = text.getvalue().encode()
        atomic_write(self.path, lambda file: _write(file, content))


def _write(file: Any, content: bytes) -> None:  # noqa: ANN401  a binary file
    file.write(content)
