"""A running mean of the weights, which often validates better than the weights themselves."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor

from ziggurat.zoo import Model

MOST_LAG = 0.1
"""Share of the weights of the beginning in a mean at its end, above which it has not followed."""
GOOD_LAG = 0.01


def lag_of_mean(decay: float, steps: int) -> str | None:
    """Say that a mean cannot follow the weights in a run this short, or return None.

    Args:
        decay: Share of the old mean that is kept in a step.
        steps: Optimizer steps of the run.
    """
    lag = decay**steps
    if lag <= MOST_LAG:
        return None
    # One digit of what is new in a step, so that a decay close to 1 is not rounded to 1.
    follows = 1 - float(f"{1 - GOOD_LAG ** (1 / steps):.1g}")
    advice = f"{follows:.10g} follows them" if follows > 0 else "null does without the mean"
    return (
        f"trainer.ema_decay {decay:g} is too slow for {steps} steps: {100 * lag:.0f} % of the mean "
        "that is validated and kept will still be the weights from before the first step; "
        f"trainer.ema_decay={advice}"
    )


class WeightMean(Callback):
    """Keeps mean <- decay * mean + (1 - decay) * weights after every optimizer step.

    Args:
        source: The model that is trained.
        decay: Share of the old mean.
    """

    def __init__(self, source: Model, decay: float) -> None:
        self.source = source
        self.decay = decay
        self._mean: ModelEmaV3 | None = None
        self._state: dict[str, Tensor] | None = None
        self._last_step = 0

    @property
    def model(self) -> Model:
        """The model with the mean of the weights."""
        assert self._mean is not None, "the run has not begun"
        model: Model = self._mean.module
        return model

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the weights of the model, or with those of the checkpoint."""
        self._mean = ModelEmaV3(self.source, decay=self.decay)
        if self._state is not None:
            self._mean.module.load_state_dict(self._state)
            self._state = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move to the device of the model, which is known by now."""
        self.model.to(trainer.strategy.root_device)
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Update, if an optimizer step was done."""
        if trainer.global_step > self._last_step:
            self._last_step = trainer.global_step
            assert self._mean is not None
            self._mean.update(self.source)

    def state_dict(self) -> dict[str, Any]:
        """Return the mean, for the checkpoint."""
        return {"mean": {name: value.cpu() for name, value in self.model.state_dict().items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the mean of a checkpoint."""
        self._state = state_dict["mean"]
