"""The running mean of the weights, step by step by hand."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from ziggurat.engine.ema import WeightMean, lag_of_mean
from ziggurat.zoo import create_model


def trainer_at(step: int) -> Any:  # noqa: ANN401  stands in for Lightning's trainer
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return cast(Any, SimpleNamespace(global_step=step, strategy=strategy))


@pytest.fixture
def no_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stand-in pass the annotations."""
    for name in ("on_fit_start", "on_train_start", "on_train_batch_end"):
        method = getattr(WeightMean, name)
        monkeypatch.setattr(WeightMean, name, getattr(method, "__wrapped__", method))


@pytest.mark.usefixtures("no_types")
def test_mean_follows_the_formula_and_counts_steps_once() -> None:
    model = create_model("p2t_tiny", num_classes=2)
    bias = model.get_parameter("head.fc.bias")
    module = cast(Any, None)
    mean = WeightMean(model, decay=0.9)
    mean.on_fit_start(trainer_at(0), module)
    mean.on_train_start(trainer_at(0), module)
    with torch.no_grad():
        bias.fill_(1.0)
    mean.on_train_batch_end(trainer_at(0), module, None, None, 0)  # a batch, not yet a step
    assert mean.model.get_parameter("head.fc.bias").tolist() == [0.0, 0.0]
    for batch in range(2):
        mean.on_train_batch_end(trainer_at(1), module, None, None, batch)
    assert mean.model.get_parameter("head.fc.bias").tolist() == pytest.approx([0.1, 0.1])
    restored = WeightMean(model, decay=0.9)
    restored.load_state_dict(mean.state_dict())
    restored.on_fit_start(trainer_at(1), module)
    assert restored.model.get_parameter("head.fc.bias").tolist() == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(("decay", "steps"), [(0.9999, 30_000), (0.5, 4), (0.1, 1)])
def test_a_mean_that_follows_is_not_spoken_of(decay: float, steps: int) -> None:
    assert lag_of_mean(decay, steps) is None


@pytest.mark.parametrize(
    ("decay", "steps", "share", "advice"),
    [
        (0.9999, 1, "100 %", "null does without the mean"),
        (0.9999, 6, "100 %", "0.5 follows them"),
        (0.9999, 600, "94 %", "0.992 follows them"),
        (0.9999, 20_000, "14 %", "0.9998 follows them"),
        (0.999999, 1_000_000, "37 %", "0.999995 follows them"),
    ],
)
def test_a_mean_that_cannot_follow(decay: float, steps: int, share: str, advice: str) -> None:
    note = lag_of_mean(decay, steps)
    assert note is not None
    assert f"{share} of the mean" in note and note.endswith(f"trainer.ema_decay={advice}")
