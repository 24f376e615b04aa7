"""--resume where something has changed, is missing, or is no number."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ziggurat.checkpoints.native import load_weights
from ziggurat.cli.main import main
from ziggurat.engine.module import TrainingModule
from ziggurat.models.classifier import Classifier
from ziggurat.types import Batch

Train = Callable[..., int]


def resume(output: Path, *words: str) -> int:
    return main(["train", "--output", str(output), "--resume", *words])


def sentence_of(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err.strip()
    assert error.startswith("ziggurat: error: ")
    assert "\n" not in error
    return error


def bad_gradient(patch: pytest.MonkeyPatch, call: int) -> None:
    """Let the gradients of the step with this number, from 0, be no numbers."""
    original = TrainingModule.training_step
    calls = [0]

    def step(self: TrainingModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = original(self, batch, batch_idx)
        calls[0] += 1
        # The loss is as it was, what comes back from it is not.
        return loss if calls[0] != call + 1 else loss + (loss - loss.detach()) * torch.nan

    patch.setattr(TrainingModule, "training_step", step)


def test_other_classes_are_refused_and_another_place_is_not(
    tmp_path: Path,
    image_folder: Path,
    train_classifier: Train,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_steps=1") == 0
    before = (output / "last.safetensors").read_bytes()
    moved = image_folder.rename(tmp_path / "moved")
    words = (f"--data.root={moved}", "--trainer.max_steps=2")
    for split in ("train", "val"):
        (moved / split / "blue").rename(moved / split / "sky")
    assert resume(output, *words) == 1
    assert "('blue' is gone, 'sky' is new)" in sentence_of(capsys)
    for split in ("train", "val"):
        shutil.copytree(moved / split / "sky", moved / split / "blue")
    assert resume(output, *words) == 1
    assert "('sky' is new)" in sentence_of(capsys)
    assert (output / "last.safetensors").read_bytes() == before
    for split in ("train", "val"):
        shutil.rmtree(moved / split / "sky")
    assert resume(output, *words) == 0


def test_a_run_that_met_a_bad_step_goes_on_as_the_message_says(
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        bad_gradient(patch, 5)  # the last one of the second epoch, which is saved after it
        assert train_classifier(output) == 1
    error = sentence_of(capsys)
    assert "the weights are not finite after step 6" in error
    checkpoint = torch.load(output / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3
    weights = load_weights(output / "last.safetensors").state_dict()
    assert all(value.isfinite().all() for value in weights.values())
    assert json.loads((output / "metrics.json").read_text())["last"]["step"] == 3
    command = error.split("`")[1]
    assert command == f"ziggurat train --output {output} --resume --optimizer.lr 0.02"
    assert "goes on from the checkpoint of step 3 (--trainer.clip_norm 1 may help, too)" in error
    assert main(command.split()[1:]) == 0
    assert "optimizer.lr was 0.2 and is 0.02 from here on" in capsys.readouterr().out
    words = ("--trainer.clip_norm=1", "--trainer.precision=bf16", "--trainer.max_epochs=3")
    assert resume(output, *words) == 0
    said = capsys.readouterr().out
    assert "trainer.precision was '32' and is 'bf16' from here on" in said
    assert "trainer.clip_norm was None and is 1.0 from here on" in said


def test_a_bad_loss_before_the_first_checkpoint(
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        bad_gradient(patch, 0)
        assert train_classifier(output) == 1
    error = sentence_of(capsys)
    assert "the loss is no finite number at step 1" in error
    assert "--resume --optimizer.lr 0.02` goes on from step 0" in error
    assert resume(output, "--optimizer.lr=0.02") == 0
    assert "no checkpoint in" in capsys.readouterr().out


def test_outputs_that_are_no_numbers_stop_the_validation(
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    original = Classifier.forward

    def forward(self: Classifier, images: torch.Tensor, sizes: object = None) -> torch.Tensor:
        logits = original(self, images, sizes)  # type: ignore[arg-type]
        return logits if self.training else logits * torch.nan

    monkeypatch.setattr(Classifier, "forward", forward)
    assert train_classifier(output, "--trainer.max_steps=1") == 1
    error = sentence_of(capsys)
    assert "validation at step 1: what the model finds on" in error
    assert "is no number, the weights are finite; `ziggurat train" in error
    assert not (output / "best.safetensors").exists()


def test_weights_without_a_checkpoint_are_not_overwritten(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_steps=1") == 0
    (output / "checkpoints/last.ckpt").unlink()
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    for name in ("last.safetensors", "best.safetensors"):
        assert resume(output) == 1
        error = sentence_of(capsys)
        assert f"there is {name}, but no checkpoint" in error
        assert f"--model.weights {output / name}" in error
        assert all(path.read_bytes() == content for path, content in before.items())
        before.pop(output / name)
        (output / name).unlink()
    assert resume(output) == 0
    assert "yet, beginning at step 0" in capsys.readouterr().out
    assert (output / "checkpoints/last.ckpt").is_file()


def test_a_run_killed_between_checkpoint_and_weights_writes_them(
    tmp_path: Path, train_classifier: Train
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_steps=1", "--trainer.ema_decay=0.5") == 0
    weights = (output / "last.safetensors").read_bytes()
    (output / "last.safetensors").unlink()
    assert resume(output) == 0
    assert (output / "last.safetensors").read_bytes() == weights


@pytest.mark.parametrize("content", [None, "", '{"best": {"step"', "[]", '{"best": 3}'])
def test_the_best_validation_outlives_its_file(
    content: str | None, tmp_path: Path, train_classifier: Train
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_classifier(parts, "--trainer.max_steps=3", "--trainer.val_every_steps=1") == 0
    shutil.copytree(parts, whole)
    record = parts / "metrics.json"
    record.unlink()
    if content is not None:
        record.write_text(content)
    for output in (whole, parts):
        assert resume(output, "--trainer.max_steps=4") == 0
    assert record.read_text() == (whole / "metrics.json").read_text()


@pytest.mark.parametrize("limit", ["--trainer.max_epochs=3", "--trainer.max_steps=7"])
def test_fewer_epochs_than_are_done_end_at_once(
    limit: str, tmp_path: Path, train_classifier: Train
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_epochs=4", limit) == 0
    before = (output / "last.safetensors").read_bytes()
    assert resume(output, "--trainer.max_epochs=1") == 0
    assert (output / "last.safetensors").read_bytes() == before
    assert resume(output, "--trainer.max_epochs=4", "--trainer.max_steps=10") == 0
    assert json.loads((output / "metrics.json").read_text())["last"]["step"] == 10


def test_a_mean_that_cannot_follow_is_announced(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--trainer.max_steps=1", "--trainer.ema_decay=0.9999")
    assert train_classifier(tmp_path / "run", *words) == 0
    assert "trainer.ema_decay 0.9999 is too slow for 1 steps" in capsys.readouterr().out
