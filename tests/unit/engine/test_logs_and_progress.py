"""metrics.csv over a resume, and how a duration reads."""

import csv
import sys
import time
from pathlib import Path

import pytest

from ziggurat.engine.logs import CsvLog, tensorboard_log
from ziggurat.engine.module import TrainingModule
from ziggurat.engine.progress import Progress, duration
from ziggurat.errors import ZigguratError


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_new_quantity_gets_a_column(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = CsvLog(path, resume=False)
    log.log_metrics({"epoch": 0, "train/loss": 2.0}, step=10)
    log.log_metrics({"epoch": 0, "train/loss": 1.0}, step=20)
    log.log_metrics({"epoch": 0, "val/top1": 0.5}, step=20)
    assert [row["train/loss"] for row in rows_of(path)] == ["2.0", "1.0", ""]
    assert [row["val/top1"] for row in rows_of(path)] == ["", "", "0.5"]
    assert list(rows_of(path)[0])[:2] == ["step", "epoch"]


def test_a_resumed_run_keeps_what_came_before_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = CsvLog(path, resume=False)
    for step in (10, 20, 30):
        log.log_metrics({"epoch": 0, "train/loss": float(step)}, step)
    resumed = CsvLog(path, resume=True)
    resumed.rewind(20)
    resumed.log_metrics({"epoch": 0, "train/loss": 31.0}, 30)
    assert [row["train/loss"] for row in rows_of(path)] == ["10.0", "20.0", "31.0"]


@pytest.mark.parametrize(
    "torn", ["3", "30,0,5.5", "30,", "x,0,1.0\n", "30,0\n", "30,0,1.0,7\n", "\0\0"]
)
def test_a_row_torn_by_a_power_cut_is_dropped(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,train/loss\n10,0,1.5\n20,0,2.5\n" + torn)
    resumed = CsvLog(path, resume=True)
    resumed.rewind(30)
    resumed.log_metrics({"epoch": 0, "train/loss": 3.5}, 30)
    assert [row["train/loss"] for row in rows_of(path)] == ["1.5", "2.5", "3.5"]
    assert [row["step"] for row in rows_of(path)] == ["10", "20", "30"]


@pytest.mark.parametrize("content", [b"", b"st", b"\xff\xfe\n1,2\n"])
def test_a_log_without_its_header_begins_anew(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    resumed = CsvLog(path, resume=True)
    resumed.rewind(10)
    resumed.log_metrics({"epoch": 0, "train/loss": 1.0}, 20)
    assert rows_of(path) == [{"step": "20", "epoch": "0", "train/loss": "1.0"}]


def test_missing_tensorboard_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ZigguratError, match=r"pip install 'ziggurat\[train\]'"):
        tensorboard_log(tmp_path, None)


def test_a_new_run_does_not_read_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    CsvLog(path, resume=False).log_metrics({"epoch": 0, "train/loss": 1.0}, 1)
    CsvLog(path, resume=False).log_metrics({"epoch": 0, "train/loss": 2.0}, 1)
    assert [row["train/loss"] for row in rows_of(path)] == ["2.0"]


def test_pauses_train_no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(TrainingModule.__new__(TrainingModule), 50, print)
    for window in (progress._logged, progress._said):
        window.add({"loss": 1.0}, 80)
    now[0] += 10.0
    progress.pause(6.0)  # of these ten seconds
    for window in (progress._logged, progress._said):
        assert window.seconds == 4.0
        assert window.images_per_second == 20.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (59.0, "59 s"),
        (61.0, "1:01 min"),
        (3600.0, "1:00 h"),
        (11_100.0, "3:05 h"),
        (362_880.0, "4.2 days"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words
