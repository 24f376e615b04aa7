"""fp16 scales the loss and leaves steps out; a run that was stopped goes on with its scale.

Training refuses fp16 on a CPU, where it gains nothing; it computes there all the same.
"""

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision

from ziggurat.cli.main import main
from ziggurat.engine import train as engine_train
from ziggurat.engine.module import TrainingModule
from ziggurat.types import Batch

Train = Callable[..., int]


@pytest.fixture
def fp16_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first step overflow, and the scale grow after each second one that does not."""

    def build(**options: Any) -> Trainer:
        assert options.pop("precision") == "16-mixed"
        scaler = torch.amp.GradScaler(
            "cpu", init_scale=2.0**60, backoff_factor=2.0**-50, growth_interval=2
        )
        plugins = [*options.pop("plugins"), MixedPrecision("16-mixed", "cpu", scaler)]
        return Trainer(**options, plugins=plugins)

    monkeypatch.setattr(engine_train, "Trainer", build)
    monkeypatch.setattr(engine_train, "check_device", lambda *_: None)


def checkpoint_of(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(output / "checkpoints/last.ckpt", weights_only=True)
    return content


def losses_of(output: Path) -> list[str]:
    with (output / "metrics.csv").open(newline="") as file:
        return [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.usefixtures("fp16_on_cpu")
def test_the_scale_of_the_loss_is_gone_on_with(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--trainer.precision=fp16", "--trainer.accelerator=auto", "--trainer.clip_norm=1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_classifier(whole, *words) == 0
    # One step of six was left out, and two times two others let the scale grow.
    scale = {"scale": 2.0**12, "growth_factor": 2.0, "backoff_factor": 2.0**-50}
    scale |= {"growth_interval": 2, "_growth_tracker": 1}
    assert checkpoint_of(whole)["MixedPrecision"] == scale

    original = TrainingModule.training_step

    def step(self: TrainingModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = original(self, batch, batch_idx)
        if self.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", step)
        assert train_classifier(parts, *words) == 130
    assert checkpoint_of(parts)["global_step"] == 4
    assert checkpoint_of(parts)["MixedPrecision"] == scale | {"scale": 2.0**11}
    assert main(["train", "--output", str(parts), "--resume"]) == 0
    assert checkpoint_of(parts)["MixedPrecision"] == scale
    assert losses_of(parts) == losses_of(whole)
    assert (parts / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()
