"""A compiled run, with PyTorch's own compiler, learns what a plain one does."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch._inductor import config as inductor

from ziggurat.checkpoints.native import load_weights

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

Train = Callable[..., int]


@pytest.fixture
def same_random_numbers() -> Iterator[None]:
    """Let what is compiled draw its random numbers as PyTorch does, and forget it afterwards.

    Yields:
        Nothing.
    """
    with inductor.patch(fallback_random=True):
        yield
    torch.compiler.reset()


def losses_of(output: Path) -> list[float]:
    with (output / "metrics.csv").open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.usefixtures("same_random_numbers")
@pytest.mark.parametrize(("precision", "tolerance"), [("32", 1e-4), ("bf16", 2e-2)])
def test_losses_and_mean_of_the_weights(
    precision: str, tolerance: float, tmp_path: Path, train_classifier: Train
) -> None:
    words = [f"--trainer.precision={precision}", "--trainer.ema_decay=0.5"]
    words += ["--model.drop_path_rate=0.3", "--trainer.max_steps=4", "--optimizer.lr=10"]
    words += ["--optimizer.kind=sgd", "--optimizer.betas=null"]  # as long as the gradients are
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    assert train_classifier(plain, *words) == 0
    assert train_classifier(compiled, *words, "--trainer.compile=true") == 0
    expected = losses_of(plain)
    assert losses_of(compiled) == pytest.approx(expected, abs=tolerance)
    assert len(expected) == 4
    mean = load_weights(compiled / "last.safetensors").state_dict()
    for name, value in load_weights(plain / "last.safetensors").state_dict().items():
        assert torch.allclose(mean[name], value, atol=tolerance), name
