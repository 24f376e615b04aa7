"""metrics.csv: one row a log entry, empty where a quantity was not written; kept over resumes."""

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from ziggurat.checkpoints.atomic import atomic_write
from ziggurat.errors import ZigguratError


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
            self._read()

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Take rows out that the run will write again.

        Args:
            step: Step the run goes on from.
        """
        self.rows = [row for row in self.rows if int(row["step"]) <= step]
        if self.path.is_file():
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
        atomic_write(self.path, lambda file: file.write(content))

    def _read(self) -> None:
        """Read the rows that are whole: a power cut may have torn the last one."""
        text = self.path.read_text(encoding="utf-8", errors="replace")
        whole = text[: text.rfind("\n") + 1].replace("\0", "")
        reader = csv.DictReader(io.StringIO(whole, newline=""))
        columns = list(reader.fieldnames or ())
        if columns[:2] != self.columns:
            return
        self.columns = columns
        # What a row has beyond the columns stands under None, what it lacks is None.
        self.rows = [
            row
            for row in reader
            if None not in row and None not in row.values() and row["step"].isdecimal()
        ]


def tensorboard_log(folder: Path, start_step: int | None) -> TensorBoardLogger:
    """Build the log in folder/tensorboard.

    Args:
        folder: Folder of the run.
        start_step: Step the run goes on from; later entries are not shown any more.

    Raises:
        ZigguratError: If TensorBoard is not installed.
    """
    try:
        import_module("torch.utils.tensorboard")  # the logger itself does so at its first entry
    except ModuleNotFoundError as error:
        raise ZigguratError(
            "training needs tensorboard, which is not installed; run "
            "`pip install 'ziggurat[train]'`"
        ) from error
    return TensorBoardLogger(
        folder,
        name="",
        version="tensorboard",
        default_hp_metric=False,
        purge_step=None if start_step is None else start_step + 1,
    )
