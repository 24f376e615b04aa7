"""All checks of a run: nothing is found in sound runs, time is kept, and nothing is written."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ziggurat import zoo
from ziggurat.checkpoints.native import save_weights
from ziggurat.cli.main import main
from ziggurat.config.files import run_to_yaml
from ziggurat.config.tree import TrainConfig
from ziggurat.doctor import examine as examine_module
from ziggurat.doctor import overfit
from ziggurat.doctor.clock import Clock, OutOfTimeError
from ziggurat.doctor.examine import CHECKS, Check, examine
from ziggurat.doctor.findings import Diagnosis, Finding
from ziggurat.doctor.subject import Subject, find_recipe
from ziggurat.errors import ZigguratError

Opened = Callable[..., Subject]


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_a_sound_run_has_no_finding(
    task: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learning by heart takes a minute by itself; here it has to begin only."""
    monkeypatch.setattr(overfit, "ENOUGH", 0.1)
    config = opened(task).config
    begun: list[str] = []
    diagnosis = examine(config, _recipe(config), minutes=3.0, on_progress=begun.append)
    assert begun == ["data and model", *(check.name for check in CHECKS)]
    assert [f for f in diagnosis.findings if f.verdict != "ok"] == []
    checks = {finding.check for finding in diagnosis.findings}
    assert {"learning rate", "pretrained weights", "memory", "duration"} <= checks
    assert ("anchors" in checks) == (task == "detection")
    assert ("padding" in checks) == (task != "classification")


def test_what_does_not_fit_into_the_time_is_not_run(opened: Opened) -> None:
    config = opened("classification").config
    diagnosis = examine(config, _recipe(config), minutes=1e-6, on_progress=lambda name: None)
    assert [finding.check for finding in diagnosis.findings] == [check.name for check in CHECKS]
    assert {finding.verdict for finding in diagnosis.findings} == {"not run"}


TIMED = [check for check in CHECKS if check.name not in ("learning rate", "classes", "anchors")]


@pytest.mark.parametrize("check", TIMED, ids=lambda check: check.name)
def test_a_check_without_time_is_cut_short(check: Check, opened: Opened, tmp_path: Path) -> None:
    save_weights(zoo.create_model("p2t_tiny"), tmp_path / "w.safetensors")
    subject = opened("segmentation", f"--model.backbone_weights={tmp_path / 'w.safetensors'}")
    with pytest.raises(OutOfTimeError):
        check.run(subject, Clock(0.0))


def test_what_a_check_raises_is_an_error_of_the_run(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(subject: Subject, clock: Clock) -> list[Finding]:
        raise ZigguratError("three files are broken; repair them")

    monkeypatch.setattr(examine_module, "CHECKS", (Check("files", fail, 1.0),))
    config = opened("classification").config
    diagnosis = examine(config, _recipe(config), minutes=1.0, on_progress=lambda name: None)
    expected = Finding("files", "error", "three files are broken", "repair them")
    assert diagnosis.findings == (expected,)


def test_too_little_memory_is_an_error_of_the_run(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(subject: Subject, clock: Clock) -> list[Finding]:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(examine_module, "CHECKS", (Check("step", fail, 1.0),))
    config = opened("classification").config
    diagnosis = examine(config, _recipe(config), minutes=1.0, on_progress=lambda name: None)
    assert diagnosis.findings[0].verdict == "error"
    assert "the memory of cpu was not enough" in diagnosis.findings[0].evidence


def test_findings_come_first() -> None:
    findings = [
        Finding("a", "ok", ""),
        Finding("b", "not run", ""),
        Finding("c", "warning", ""),
        Finding("d", "error", ""),
        Finding("e", "error", ""),
    ]
    diagnosis = Diagnosis.of(findings, 1.0)
    assert [finding.check for finding in diagnosis.findings] == ["d", "e", "c", "b", "a"]
    assert diagnosis.summary() == "2 errors, 1 warning, 1 check well, 1 not run"


def test_a_clock_gives_no_more_than_is_left() -> None:
    clock = Clock(10.0)
    assert clock.part(0.5).seconds == 5.0
    assert clock.part(3.0).seconds <= 10.0
    Clock(10.0).require("much to do")
    with pytest.raises(OutOfTimeError, match="half of it"):
        Clock(0.0).require("half of it")


def test_a_run_file_belongs_to_the_nearest_recipe_of_its_model(opened: Opened) -> None:
    config = opened("classification").config
    assert find_recipe(config, Path("my_run.yaml")) == "p2t_tiny_from_scratch"
    assert find_recipe(config, "p2t_tiny_300e_imagenet") == "p2t_tiny_300e_imagenet"
    parts = dataclasses.replace(config.model, name="semantic_fpn", backbone="p2t_tiny")
    assert find_recipe(dataclasses.replace(config, model=parts), Path("my_run.yaml")) is None


def test_fp16_on_a_cpu_is_refused_as_in_training(opened: Opened) -> None:
    with pytest.raises(ZigguratError, match="trainer.precision must be 32 or bf16 on a CPU"):
        opened("classification", "--trainer.precision=fp16")


@pytest.fixture
def words(scenes: Path, tmp_path: Path, opened: Opened) -> list[str]:
    """`doctor` of a run file, in an empty folder."""
    file = tmp_path / "my_run.yaml"
    file.write_text(run_to_yaml(opened("classification").config))
    return ["doctor", "--config", str(file)]


def test_command_prints_json_and_writes_nothing(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(overfit, "ENOUGH", 0.1)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before = sorted(tmp_path.rglob("*"))
    assert main([*words, "--json", "--minutes", "3"]) == 0
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert {"summary", "seconds", "findings"} == content.keys()
    assert {"check", "verdict", "evidence", "fix"} == content["findings"][0].keys()
    assert "checking learning rate\n" in printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_command_puts_errors_first_and_fails(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cheap = tuple(check for check in CHECKS if check.name in ("learning rate", "classes"))
    monkeypatch.setattr(examine_module, "CHECKS", cheap)
    assert main([*words, "--optimizer.lr", "1"]) == 1
    printed = capsys.readouterr()
    rows = [line for line in printed.out.splitlines() if "  ok " in line or "  error " in line]
    assert rows[0].split()[:3] == ["error", "learning", "rate"]
    assert "1 error, 2 checks well" in printed.out
    assert printed.err.splitlines()[-1].startswith(
        "ziggurat: error: this run has 1 error, named above; begin with learning rate: set "
    )


def test_command_says_what_to_do_next(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cheap = tuple(check for check in CHECKS if check.name in ("learning rate", "classes"))
    monkeypatch.setattr(examine_module, "CHECKS", cheap)
    assert main(words) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next: begin with `ziggurat train --config {words[-1]} ...`"
    assert main([*words, "--model.num_classes", "9"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: look at classes: leave model.num_classes out")


@pytest.mark.parametrize(
    "wrong",
    [
        ["p2t_tny_from_scratch"],
        ["p2t_tiny_from_scratch"],
        ["p2t_tiny_from_scratch", "--data.root", "nowhere"],
        ["p2t_tiny_from_scratch", "--data.root", "nowhere", "--optimizer.lr", "-1"],
        ["p2t_tiny_from_scratch", "--optimiser.lr", "1"],
        ["--config", "nowhere.yaml"],
        ["p2t_tiny_from_scratch", "--config", "nowhere.yaml"],
    ],
)
def test_a_broken_run_gives_the_sentence_of_train(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *wrong]) == 1
    of_train = capsys.readouterr().err.splitlines()[-1]
    assert main(["doctor", *wrong]) == 1
    of_doctor = capsys.readouterr().err.splitlines()[-1]
    assert of_doctor == of_train.replace("ziggurat train", "ziggurat doctor")


def test_a_run_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 1
    assert "for example `ziggurat doctor " in capsys.readouterr().err


def test_no_time_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--minutes", "0"]) == 1
    assert "--minutes must be above 0, got 0" in capsys.readouterr().err


def _recipe(config: TrainConfig) -> str:
    recipe = find_recipe(config, Path("run.yaml"))
    assert recipe is not None
    return recipe
