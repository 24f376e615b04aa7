"""`ziggurat compare` and `ziggurat report` on folders as runs leave them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ziggurat.cli.main import main
from ziggurat.config.files import load_run, run_to_yaml
from ziggurat.errors import ZigguratError
from ziggurat.inference import run_report
from ziggurat.inference.predictor import WEIGHT_FILES
from ziggurat.inference.run_record import read_run
from ziggurat.inference.run_report import describe_run
from ziggurat.metrics.base import Report
from ziggurat.visualize.plots import plot_confusion

HEADER = "step,epoch,train/loss,train/lr,train/images_per_second,train/seconds,val/top1\n"


def run_folder(path: Path, *words: str, recipe: str = "p2t_tiny_from_scratch") -> Path:
    """Write what a run has at its beginning."""
    path.mkdir(parents=True)
    run = load_run(recipe, ["--data.root=there", *words])
    (path / "run.yaml").write_text(run_to_yaml(run))
    return path


def validated(path: Path, best: float, last: float) -> None:
    """Add two epochs of five steps, the first one the better."""
    (path / "metrics.csv").write_text(
        f"{HEADER}5,0,2.0,0.1,10.0,60.0,\n5,0,,,,,{best}\n10,1,1.0,0.05,30.0,180.0,\n10,1,,,,,{last}\n"
    )

    def entry(step: int, value: float) -> dict[str, Any]:
        return {
            "step": step,
            "primary": "top1",
            "num_images": 4,
            "metrics": {"top1": value, "top5": None},
            "per_class": [{"class": "a", "images": 4, "accuracy": value}],
            "confusion": [[4]],
        }

    record = {"best": entry(5, best), "last": entry(10, last)}
    (path / "metrics.json").write_text(json.dumps(record))


def test_a_run_is_read(tmp_path: Path) -> None:
    path = run_folder(tmp_path / "run", "--optimizer.lr=0.25")
    validated(path, 0.75, 0.5)
    record = read_run(path)
    assert record.settings["optimizer.lr"] == 0.25
    assert (record.step, record.epoch, record.seconds) == (10, 1, 180.0)
    assert record.best is not None
    assert (record.best.step, record.best.report.value) == (5, 0.75)
    assert record.last is not None
    assert record.last.report.value == 0.5
    assert record.curves["train/loss"].values == [2.0, 1.0]


def test_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_folder(tmp_path / "first", "--optimizer.lr=0.25")
    second = run_folder(tmp_path / "second", "--trainer.clip_norm=null", "--optimizer.lr=0.5")
    third = run_folder(tmp_path / "third", "--optimizer.lr=0.25", "--data.root=elsewhere")
    validated(first, 0.75, 0.5)
    validated(second, 0.875, 0.25)
    page = tmp_path / "compare.html"
    paths = [str(path) for path in (first, second, third)]
    assert main(["compare", *paths, "--json", "-o", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["primary"] == "top1"
    assert [run["name"] for run in found["runs"]] == ["first", "second", "third"]
    assert found["runs"][1]["best"] == {"step": 5, "top1": 0.875, "top5": None}
    assert found["runs"][1]["seconds"] == 180.0
    assert found["runs"][2]["best"] is found["runs"][2]["seconds"] is None
    differing = {row["setting"]: tuple(row.values())[1:] for row in found["settings"]}
    assert differing["optimizer.lr"] == ("0.25", "0.5", "0.25")
    assert differing["data.root"] == ("there", "there", "elsewhere")
    text = page.read_text()
    assert "The best top1 is 87.5 %, of second." in text
    assert "Over the steps" in text
    assert "Over the time" in text
    assert main(["compare", *paths]) == 0
    assert "87.5" in capsys.readouterr().out


def test_names_of_runs_stay_as_they_are_and_are_not_folded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{letter}_{'long_name_' * 4}of_a_run" for letter in "abc"]
    rates = (0.25, 0.5, 1.0)
    paths = [
        str(run_folder(tmp_path / name, f"--optimizer.lr={rate}"))
        for name, rate in zip(names, rates, strict=True)
    ]
    page = tmp_path / "page.html"
    assert main(["compare", *paths, "-o", str(page)]) == 0
    text = capsys.readouterr().out
    for name in names:
        assert text.count(name) == 2, "a row of the results and a column of the settings"
        assert f">{name}</th>" in page.read_text()


def test_names_that_are_alike_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(run_folder(tmp_path / name / "run")) for name in ("a", "b")]
    assert main(["compare", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in found["runs"]] == ["a/run", "b/run"]
    assert found["settings"] == []
    assert found["primary"] is None
    page = tmp_path / "page.html"
    assert main(["compare", *paths, "-o", str(page)]) == 0
    assert "None of them has been validated yet." in page.read_text()


def test_a_report_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_folder(tmp_path / "run")
    assert main(["report", str(path)]) == 0
    assert "0 steps are done, and nothing has been validated yet." in capsys.readouterr().out
    assert "images evaluated" not in (path / "report.html").read_text()


def test_a_report_after_a_validation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_folder(tmp_path / "run")
    validated(path, 0.75, 0.5)
    page = tmp_path / "page.html"
    assert main(["report", str(path), "-o", str(page), "--images", "0"]) == 0
    assert "10 steps are done; the best top1 is 75.0 %, at step 5." in capsys.readouterr().out
    text = page.read_text()
    for words in ("images evaluated", "Confusion", "Training", "3.0 min", "in epoch 2 of"):
        assert words in text, words


def test_a_report_of_a_segmenter(tmp_path: Path) -> None:
    """What its matrix counts is known from the file of the run, also where that is an old one."""
    path = run_folder(tmp_path / "run")
    rows: list[dict[str, Any]] = [
        {"class": "sky", "pixels": 3000000, "IoU": 0.5, "accuracy": 1.0},
        {"class": "sea", "pixels": 0, "IoU": None, "accuracy": None},
    ]
    confusion = np.array([[3000000, 0], [0, 0]])
    report = Report("mIoU", {"mIoU": 0.5}, rows, 4, confusion, confusion_of="pixels")
    new = {"step": 5, **report.to_json()}
    assert Report.from_json(new).confusion_of == "pixels"
    old = {key: value for key, value in new.items() if key != "confusion_of"}
    for entry in (new, old):
        (path / "metrics.json").write_text(json.dumps({"best": entry, "last": entry}))
        best = read_run(path).best
        assert best is not None
        plots = describe_run(path, best.report, title="", summary="", facts=[]).plots
        assert [plot.title for plot in plots] == ["Confusion", "Classes"]
        assert plots[0].light == plot_confusion(confusion[:1, :1], ["sky"], of="pixels")


def test_a_report_leaves_the_gpu_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_folder(tmp_path / "run")
    (path / WEIGHT_FILES[0]).touch()

    def load(weights: Path, *, device: str = "auto") -> None:
        raise ZigguratError(f"{weights.name} on {device}")

    monkeypatch.setattr(run_report, "load", load)
    assert main(["report", str(path)]) == 1
    assert f"{WEIGHT_FILES[0]} on cpu" in capsys.readouterr().err


def test_a_report_on_data_of_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_folder(tmp_path / "run")
    (path / WEIGHT_FILES[0]).touch()

    def open_data(model: object, run: object, root: Path | None, split: object) -> None:
        raise ZigguratError(f"data of {root}")

    monkeypatch.setattr(run_report, "load", lambda *_, **__: SimpleNamespace(model=None))
    monkeypatch.setattr(run_report, "open_data", open_data)
    assert main(["report", str(path), "--data.root", "moved"]) == 1
    assert "data of moved" in capsys.readouterr().err
    assert main(["report", str(path), "-o", str(tmp_path / "new" / "page.html"), "--images=0"]) == 0
    assert (tmp_path / "new" / "page.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("report", "{tmp}/absent"), "absent is no folder of a run: there is no run.yaml"),
        (("report", "{tmp}/run", "--images", "-1"), "--images must be at least 0, got -1"),
        (("report", "{tmp}/run", "-o", "/proc/no/page.html"), "no cannot be made: No such"),
        (("report", "{tmp}/run", "-o", "{tmp}"), "is a folder; name a file in it"),
        (("compare", "{tmp}/run", "{tmp}/torn", "-o", "{tmp}"), "is a folder; name a file"),
        (("report", "{tmp}/torn"), "metrics.json cannot be read (JSONDecodeError"),
        (("report", "{tmp}/other"), "metrics.json cannot be read (KeyError: 'best')"),
        (("compare", "{tmp}/run"), "needs at least two runs, got 1"),
        (("compare", "{tmp}/run", "{tmp}/run/../run"), "run is given twice"),
        (("compare", "{tmp}/run", "{tmp}/detector"), "compare runs of one task"),
    ],
)
def test_what_cannot_be_reported(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder(tmp_path / "run")
    run_folder(tmp_path / "detector", recipe="retinanet_p2t_tiny_1x_coco")
    for name, content in (("torn", '{"best": {'), ("other", "{}")):
        (run_folder(tmp_path / name) / "metrics.json").write_text(content)
    assert main([word.format(tmp=tmp_path) for word in words]) == 1
    assert message in capsys.readouterr().err
