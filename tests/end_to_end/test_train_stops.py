"""What ends a run early: limits, signals, a full disk, a loss that is no number."""

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from ziggurat.checkpoints.native import load_weights
from ziggurat.cli.main import main
from ziggurat.engine.module import TrainingModule
from ziggurat.engine.validation import Validation
from ziggurat.types import Batch

Train = Callable[..., int]


def step_of(output: Path) -> int:
    checkpoint = torch.load(output / "checkpoints/last.ckpt", weights_only=True)
    step: int = checkpoint["global_step"]
    return step


def last_validation(output: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((output / "metrics.json").read_text())["last"]
    return record


def assert_same_weights(first: Path, second: Path) -> None:
    got = load_weights(second).state_dict()
    for name, value in load_weights(first).state_dict().items():
        assert torch.equal(value, got[name]), name


def after_step(patch: pytest.MonkeyPatch, call: int, act: Callable[[], None]) -> None:
    """Act at the end of the training step with this number, from 0."""
    original = TrainingModule.training_step
    calls = [0]

    def step(self: TrainingModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = original(self, batch, batch_idx)
        if calls[0] == call:
            act()
        calls[0] += 1
        return loss

    patch.setattr(TrainingModule, "training_step", step)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_end_and_saves(
    number: signal.Signals,
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(number)
    after_step(monkeypatch, 3, lambda: os.kill(os.getpid(), number))
    assert train_classifier(tmp_path / "run") == 130
    assert step_of(tmp_path / "run") == 4
    assert "--resume" in capsys.readouterr().err
    assert signal.getsignal(number) == before


def test_a_second_signal_stops_without_saving(
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    after_step(monkeypatch, 4, twice)
    assert train_classifier(tmp_path / "run") == 130
    assert step_of(tmp_path / "run") == 3
    assert "last.ckpt is of step 3, `ziggurat train --output" in capsys.readouterr().err


def test_ctrl_c_during_validation_is_made_up_for(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"

    def interrupt(self: Validation, trainer: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Validation, "_evaluate", interrupt)
        assert train_classifier(output, "--trainer.val_every_epochs=2") == 130
    assert step_of(output) == 6
    assert not (output / "best.safetensors").exists()
    assert main(["train", "--output", str(output), "--resume"]) == 0
    assert last_validation(output)["step"] == 6
    assert (output / "best.safetensors").is_file()


def test_max_steps_ends_within_an_epoch_and_can_be_raised(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_steps=4") == 0
    assert "trainer.max_steps is 4" in capsys.readouterr().out
    assert step_of(output) == 4
    assert last_validation(output)["step"] == 4
    # Once more with the same limit: nothing is left to do, and nothing is done.
    assert main(["train", "--output", str(output), "--resume"]) == 0
    assert step_of(output) == 4
    assert main(["train", "--output", str(output), "--resume", "--trainer.max_steps=5"]) == 0
    assert step_of(output) == 5
    assert last_validation(output)["step"] == 5


def test_max_steps_at_the_end_of_an_epoch(tmp_path: Path, train_classifier: Train) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_steps=3") == 0
    assert step_of(output) == 3
    assert last_validation(output)["step"] == 3
    assert main(["train", "--output", str(output), "--resume", "--trainer.max_steps=6"]) == 0
    assert step_of(output) == 6


def test_max_minutes_ends_the_run_and_validates(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_minutes=0.0001") == 0
    assert "trainer.max_minutes is 0.0001" in capsys.readouterr().out
    assert step_of(output) == 1
    assert last_validation(output)["step"] == 1


def test_a_run_stopped_after_any_epoch_goes_on_as_if_it_had_not(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_classifier(whole) == 0
    with monkeypatch.context() as patch:
        # The last step of the first epoch: it ends, is saved, and the run stops before the second.
        after_step(patch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert train_classifier(parts) == 130
    assert step_of(parts) == 3
    assert main(["train", "--output", str(parts), "--resume"]) == 0
    assert_same_weights(whole / "last.safetensors", parts / "last.safetensors")
    assert last_validation(parts)["step"] == 6


def test_full_disk_while_saving_leaves_the_earlier_checkpoint(
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    original = torch.save
    calls = [0]

    def save(content: object, file: BinaryIO) -> None:
        calls[0] += 1
        if calls[0] == 2:
            file.write(b"the beginning")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        assert train_classifier(output) == 1
    error = capsys.readouterr().err.strip()
    assert "No space left on device" in error and str(output) in error
    assert error.count("\n") == 0
    assert step_of(output) == 3
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["last.ckpt"]
    assert main(["train", "--output", str(output), "--resume"]) == 0
    assert step_of(output) == 6


def test_a_loss_that_is_no_number_names_step_term_and_images(
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    original = TrainingModule.training_step
    calls = [0]

    def poisoned(self: TrainingModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        if calls[0] == 4:
            with torch.no_grad():
                self.model.get_parameter("head.fc.weight").fill_(float("nan"))
        calls[0] += 1
        return original(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", poisoned)
    assert train_classifier(output) == 1
    error = capsys.readouterr().err
    assert "at step 4" in error and "classification = nan" in error
    assert error.count(".png") == 4
    assert step_of(output) == 3


def test_an_unreadable_checkpoint_is_refused(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_steps=1") == 0
    checkpoint = output / "checkpoints/last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert main(["train", "--output", str(output), "--resume"]) == 1
    assert "damaged" in capsys.readouterr().err
