"""The page about Python, word for word, and what it promises."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

import ziggurat

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_the_page_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(compile(code, PAGE.name, "exec"), names)
    assert "done: best" in capsys.readouterr().out
    evaluation, result = names["evaluation"], names["result"]
    assert isinstance(evaluation, ziggurat.Evaluation)
    assert isinstance(result, ziggurat.RunResult)
    assert evaluation.report.value == pytest.approx(result.metrics["best"]["value"])
    run = Path("runs/scenes")
    assert (result.best, evaluation.weights) == (run / "best.safetensors",) * 2
    assert {file.name for file in (run / "evaluation").iterdir()} == {
        *("evaluation.json", "predictions.json", "report.html"),
    }
    content = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert content["num_images"] == evaluation.report.num_images > 0
    assert isinstance(names["prediction"].result, ziggurat.Detections)
    assert Path("found.jpg").is_file()


def test_training_is_logged_and_not_printed(
    image_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="ziggurat")
    words = [f"--data.root={image_folder}", "--data.workers=0", "--data.batch_size=4"]
    config = ziggurat.load_run("p2t_tiny_from_scratch", [*words, "--trainer.max_steps=1"])
    output = str(tmp_path / "run")
    ziggurat.train(config, output)
    ziggurat.train(config, output, resume=True)  # there is nothing left to be done
    assert capsys.readouterr() == ("", "")
    assert "done: best" in caplog.text
    assert ziggurat.check_dataset(str(image_folder)).faults == ()
