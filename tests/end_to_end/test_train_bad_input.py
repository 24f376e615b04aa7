"""Bad data, weights, devices and places given to `ziggurat train`: one sentence each, no harm."""

import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ziggurat import zoo
from ziggurat.checkpoints.native import load_weights, save_weights
from ziggurat.cli.main import main

Train = Callable[..., int]


def sentence_of(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err.strip()
    assert error.startswith("ziggurat: error: ")
    assert "\n" not in error
    return error


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


def test_empty_data_folder(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert train_classifier(tmp_path / "run", f"--data.root={empty}") == 1
    assert str(empty) in sentence_of(capsys)
    assert not (tmp_path / "run").exists()


def test_weights_of_another_architecture(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "detector.safetensors"
    detector = zoo.create_model("retinanet_p2t_tiny", num_classes=2, head_channels=16, head_depth=1)
    save_weights(detector, path)
    assert train_classifier(tmp_path / "run", f"--model.weights={path}") == 1
    error = sentence_of(capsys)
    assert "retinanet_p2t_tiny" in error and "does not fit p2t_tiny" in error


def test_backbone_of_our_own_file_starts_a_run(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "detector.safetensors"
    detector = zoo.create_model("retinanet_p2t_tiny", num_classes=5, head_channels=16, head_depth=1)
    save_weights(detector, path)
    words = ("--optimizer.lr=1e-9", "--schedule.min_lr=0", "--trainer.max_steps=1")
    assert train_classifier(tmp_path / "run", f"--model.backbone_weights={path}", *words) == 0
    assert "entries loaded" in capsys.readouterr().out
    trained = load_weights(tmp_path / "run" / "last.safetensors").state_dict()
    for name, value in detector.backbone.state_dict().items():
        assert (value - trained[f"backbone.{name}"]).abs().max() < 1e-6, name


def test_backbone_of_another_architecture(
    tmp_path: Path,
    train_classifier: Train,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "small.safetensors"
    save_weights(zoo.create_model("p2t_small", num_classes=2), path)
    assert train_classifier(tmp_path / "run", f"--model.backbone_weights={path}") == 1
    error = sentence_of(capsys)
    assert "small.safetensors" in error and "p2t_small" in error and "p2t_tiny" in error


def test_a_malicious_checkpoint_runs_nothing(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output, marker = tmp_path / "run", tmp_path / "marker"
    assert train_classifier(output, "--trainer.max_steps=1") == 0
    for save in (_save_with_torch, _save_as_pickle):
        save(Malicious(marker), output / "checkpoints/last.ckpt")
        capsys.readouterr()
        assert main(["train", "--output", str(output), "--resume"]) == 1
        assert "last.ckpt cannot be read" in sentence_of(capsys)
        assert not marker.exists()


def _save_with_torch(content: object, path: Path) -> None:
    torch.save({"loops": content, "state_dict": {}}, path)


def _save_as_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps({"loops": content}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_classifier(tmp_path / "run", "--trainer.accelerator=cuda") == 1
    assert "trainer.accelerator cuda" in sentence_of(capsys)
    assert not (tmp_path / "run").exists()


def test_a_run_that_contradicts_torchrun(
    tmp_path: Path,
    train_classifier: Train,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train_classifier(tmp_path / "run", "--trainer.devices=4") == 1
    assert "torchrun started 2 processes" in sentence_of(capsys)


@pytest.mark.parametrize("name", ["", "below"])
def test_output_below_a_file(
    name: str, tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert train_classifier(tmp_path / "file" / "run" / name) == 1
    error = sentence_of(capsys)
    assert "--resume" not in error
    assert "cannot begin: Not a directory" in error and "--output" in error
    assert (tmp_path / "file").read_text() == "mine"


def test_a_new_run_does_not_take_over_old_numbers(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    output.mkdir()
    record = output / "metrics.json"
    record.write_text('{"best": {"value": 2.0, "step": 1}, "last": {"step": 1}}')
    assert train_classifier(output, "--trainer.max_steps=1") == 1
    assert "already holds a run" in sentence_of(capsys)
    record.unlink()
    assert train_classifier(output, "--trainer.max_steps=1") == 0
    # Stopped before its first checkpoint, with numbers of no weights that are left.
    for name in ("checkpoints/last.ckpt", "last.safetensors", "best.safetensors"):
        (output / name).unlink()
    stale = {"best": {"value": 2.0, "step": 9, "primary": "top1"}, "last": {"step": 1}}
    record.write_text(json.dumps(stale))
    assert main(["train", "--output", str(output), "--resume"]) == 0
    assert json.loads(record.read_text())["best"]["step"] == 1


def test_full_disk_on_resume_leaves_the_run_file(
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_steps=1") == 0
    before = (output / "run.yaml").read_bytes()
    resume = ["train", "--output", str(output), "--resume", "--trainer.max_steps=2"]

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(resume) == 1
    assert "run.yaml: No space left on device" in sentence_of(capsys)
    assert (output / "run.yaml").read_bytes() == before
    assert main(resume) == 0
    assert (output / "run.yaml").read_bytes() != before


def test_weights_in_the_run_file_are_found_from_anywhere(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(zoo.create_model("p2t_tiny", num_classes=2), tmp_path / "start.safetensors")
    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        words = ("--model.weights=start.safetensors", "--trainer.max_steps=1")
        assert train_classifier(output, *words) == 0
    text = (output / "run.yaml").read_text()
    assert f"weights: {tmp_path / 'start.safetensors'}\n" in text
    assert main(["train", "--output", str(output), "--resume"]) == 0


def test_what_cannot_be_sharded(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_classifier(tmp_path / "run", "--trainer.strategy=fsdp") == 1
    assert "trainer.strategy must be auto or ddp with a single device" in sentence_of(capsys)
    words = ("--trainer.strategy=fsdp", "--trainer.devices=2", "--trainer.ema_decay=0.9")
    assert train_classifier(tmp_path / "run", *words) == 1
    assert "must be auto or ddp with trainer.ema_decay, got 'fsdp'" in sentence_of(capsys)
    words = ("--trainer.strategy=fsdp", "--trainer.devices=2", "--trainer.compile=true")
    assert train_classifier(tmp_path / "run", *words) == 1
    assert "must be auto or ddp with trainer.compile, got 'fsdp'" in sentence_of(capsys)


def test_a_recipe_after_resume(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", "p2t_tiny_300e_imagenet"]) == 1
    assert "a recipe stands before --resume" in sentence_of(capsys)
