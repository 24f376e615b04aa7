"""A run is shortened to what fits into its minutes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ziggurat.config import load_run
from ziggurat.data.synthesize import synthesize
from ziggurat.engine.budget import fit_to_minutes
from ziggurat.models.classifier import Classifier


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_steps_are_timed_in_the_precision_of_the_run(
    precision: str, p2t_mini: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesize(tmp_path / "scenes", num_images=12, size=(64, 64), seed=0)
    plain: Callable[..., Any] = Classifier.forward
    is_mixed: set[bool] = set()

    def forward(self: Classifier, *images: Any) -> Any:
        is_mixed.add(torch.is_autocast_enabled("cpu"))
        return plain(self, *images)

    monkeypatch.setattr(Classifier, "forward", forward)
    words = [
        f"--data.root={tmp_path / 'scenes' / 'classification'}",
        f"--model.name={p2t_mini}",
        f"--trainer.precision={precision}",
        "--trainer.max_epochs=100000",
        "--data.batch_size=2",
        "--data.workers=0",
    ]
    said: list[str] = []
    config = load_run("p2t_tiny_from_scratch", words)
    planned = fit_to_minutes(config, 0.05, said.append)
    assert is_mixed == {precision == "bf16"}
    assert planned.trainer.max_minutes == 0.05
    assert planned.trainer.max_steps is not None
    assert planned.trainer.max_steps < 100000
    assert "fit into 0.05 minutes" in said[-1]


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_run_on_a_gpu_gets_the_limit_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
    config = load_run("p2t_tiny_from_scratch", ["--data.root=/nowhere"])
    planned = fit_to_minutes(config, 3.0, print)
    assert planned.trainer.max_minutes == 3.0
    assert planned.trainer.max_steps == config.trainer.max_steps
