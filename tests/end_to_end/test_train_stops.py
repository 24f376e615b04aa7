"""What ends a run early: limits, signals, a full disk, a loss that is no number."""

import csv
import errno
import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from safetensors import safe_open

from ziggurat.checkpoints.native import load_weights
from ziggurat.cli.main import main
from ziggurat.engine import validation
from ziggurat.engine.data import batch_to
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

    def interrupt(self: Validation, model: object, trainer: object) -> None:
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


def test_max_steps_at_the_end_of_an_epoch(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_steps=3", "--trainer.max_epochs=9") == 0
    assert "epoch 1/1  step 3/3" in capsys.readouterr().out
    assert step_of(output) == 3
    assert last_validation(output)["step"] == 3
    assert main(["train", "--output", str(output), "--resume", "--trainer.max_steps=6"]) == 0
    assert step_of(output) == 6


def test_max_minutes_ends_the_run_and_validates(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    words = ("--trainer.max_minutes=1e-9", "--schedule.follow_clock=true", "--schedule.min_lr=0")
    assert train_classifier(output, *words) == 0
    assert "trainer.max_minutes is 1e-09" in capsys.readouterr().out
    assert step_of(output) == 1
    assert last_validation(output)["step"] == 1
    with (output / "metrics.csv").open(newline="") as file:
        lrs = [float(row["train/lr"]) for row in csv.DictReader(file) if row["train/lr"]]
    assert lrs == pytest.approx([0.0], abs=1e-12)  # the time was over before the step began


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


def poison(patch: pytest.MonkeyPatch, name: str) -> None:
    """Make a parameter of the model no number at the fifth step."""
    original = TrainingModule.training_step
    calls = [0]

    def step(self: TrainingModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        if calls[0] == 4:
            with torch.no_grad():
                self.model.get_parameter(name).view(-1)[0] = float("nan")
        calls[0] += 1
        return original(self, batch, batch_idx)

    patch.setattr(TrainingModule, "training_step", step)


@pytest.mark.parametrize("module", ["head.fc", "backbone.stages.1.blocks.0.attn.proj"])
def test_a_loss_that_is_no_number_names_step_term_images_and_module(
    module: str,
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    poison(monkeypatch, f"{module}.weight")
    # A block that is dropped would hide its weights.
    assert train_classifier(output, "--model.drop_path_rate=0") == 1
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "at step 4" in error and "classification = nan" in error
    assert error.count(".png") == 4
    assert f"it begins in a parameter of {module} (" in error
    assert step_of(output) == 3
    file = output / "bad_batch_step_4.safetensors"
    assert str(file) in error
    with safe_open(file, framework="pt") as kept:
        assert kept.get_tensor("images").shape == (4, 3, 72, 72)
        assert kept.get_tensor("targets").shape[0] == 4
        assert all(info["path"] in error for info in json.loads(kept.metadata()["images"]))


def _fill_memory() -> None:
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8.00 GiB."
    )


def test_a_step_that_does_not_fit_into_memory(
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    after_step(monkeypatch, 4, _fill_memory)
    assert train_classifier(tmp_path / "run") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("ziggurat: error: a step of the run in ") and "\n" not in error
    asked = "data.batch_size 4 (CUDA out of memory. Tried to allocate 2.50 GiB)"
    assert f"{asked}; the checkpoint of step 3 remains; begin anew with a lower data." in error
    for field in ("trainer.accumulate", "checkpoint_activations true", "trainer.precision bf16"):
        assert field in error


def test_a_validation_that_does_not_fit_into_memory(
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(validation, "batch_to", lambda *_: _fill_memory())
        words = ("--trainer.max_steps=1", "--data.eval_batch_size=3")
        assert train_classifier(output, *words) == 1
    error = capsys.readouterr().err.strip()
    assert "validation at step 1 does not fit into the memory of its device with" in error
    assert "data.eval_batch_size 3 (CUDA out of memory. Tried to allocate 2.50 GiB); lower" in error
    assert main(["train", "--output", str(output), "--resume", "--data.eval_batch_size=1"]) == 0
    assert last_validation(output)["step"] == 1


def test_a_signal_during_a_validation_costs_only_the_validation(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"

    def move(*words: Any) -> Batch:  # noqa: ANN401  whatever the original takes
        os.kill(os.getpid(), signal.SIGTERM)
        return batch_to(*words)

    with monkeypatch.context() as patch:
        patch.setattr(validation, "batch_to", move)
        assert train_classifier(output, "--data.eval_batch_size=3") == 130
    assert step_of(output) == 3
    assert not (output / "metrics.json").exists()
    assert main(["train", "--output", str(output), "--resume"]) == 0
    assert last_validation(output)["step"] == 6


@pytest.mark.slow
def test_a_lost_worker_is_one_sentence(
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"

    def kill_workers() -> None:
        for process in multiprocessing.active_children():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.3)

    with monkeypatch.context() as patch:
        after_step(patch, 4, kill_workers)
        assert train_classifier(output, "--data.workers=1", "--trainer.max_epochs=3") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("ziggurat: error: ") and "\n" not in error
    assert "lost a process that reads data (DataLoader worker (pid" in error
    # What the worker had read before may be enough for the epoch.
    assert re.search(r"the checkpoint of step [36] remains, --resume goes on from there", error)
    assert main(["train", "--output", str(output), "--resume"]) == 0
    assert step_of(output) == 9


def test_a_signal_to_all_processes_leaves_the_workers_to_the_main_one(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_everything() -> None:
        for process in multiprocessing.active_children():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGTERM)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    after_step(monkeypatch, 3, stop_everything)
    assert train_classifier(tmp_path / "run", "--data.workers=1") == 130
    assert step_of(tmp_path / "run") == 4


@pytest.mark.slow
def test_ctrl_c_in_a_validation_within_an_epoch_costs_no_step(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, whole = tmp_path / "run", tmp_path / "whole"
    words = ("--trainer.val_every_steps=2", "--trainer.max_epochs=2")
    assert train_classifier(whole, *words) == 0

    def interrupt(self: Validation, model: object, trainer: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Validation, "_evaluate", interrupt)
        assert train_classifier(output, *words) == 130
    assert step_of(output) == 2
    assert main(["train", "--output", str(output), "--resume"]) == 0
    # The validation that was stopped is made up for.
    records = [(folder / "metrics.json").read_text() for folder in (whole, output)]
    assert records[0] == records[1]
    with (output / "metrics.csv").open(newline="") as file:
        steps = [row["step"] for row in csv.DictReader(file) if row["val/top1"]]
    assert steps == ["2", "4", "6"]


class TestSlurm:
    """A job that is told of its end; `scontrol` is a script that notes its words."""

    @pytest.fixture(autouse=True)
    def job(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        scontrol = tmp_path / "bin" / "scontrol"
        scontrol.parent.mkdir()
        scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\nexit $SCONTROL_CODE\n')
        scontrol.chmod(0o755)
        monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
        for name, value in {
            "JOB_ID": "77",
            "STEP_ID": "0",
            "PROCID": "0",
            "LOCALID": "0",
            "NODEID": "0",
            "NTASKS": "1",
            "NNODES": "1",
            "NTASKS_PER_NODE": "1",
        }.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        monkeypatch.setenv("SCONTROL_CODE", "0")

    def test_it_saves_and_queues_itself_again(
        self,
        tmp_path: Path,
        train_classifier: Train,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        output, whole = tmp_path / "run", tmp_path / "whole"
        assert train_classifier(whole, "--resume", "auto") == 0
        with monkeypatch.context() as patch:
            after_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGUSR1))
            assert train_classifier(output, "--resume", "auto") == 130
        assert step_of(output) == 4
        assert (tmp_path / "said").read_text() == "requeue 77\n"
        assert "SLURM job 77 is queued again" in capsys.readouterr().err
        # The same command once more, as SLURM gives it.
        assert train_classifier(output, "--resume", "auto") == 0
        assert_same_weights(whole / "last.safetensors", output / "last.safetensors")

    def test_a_task_of_an_array(
        self, tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
        after_step(monkeypatch, 0, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        assert train_classifier(tmp_path / "run") == 130
        assert (tmp_path / "said").read_text() == "requeue 70_7\n"

    def test_slurm_refuses(
        self,
        tmp_path: Path,
        train_classifier: Train,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("SCONTROL_CODE", "1")
        after_step(monkeypatch, 0, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        assert train_classifier(tmp_path / "run") == 1
        assert "SLURM does not queue job 77 again: no reason given" in capsys.readouterr().err
        assert step_of(tmp_path / "run") == 1


def test_an_unreadable_checkpoint_is_refused(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_steps=1") == 0
    checkpoint = output / "checkpoints/last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert main(["train", "--output", str(output), "--resume"]) == 1
    assert "damaged" in capsys.readouterr().err
