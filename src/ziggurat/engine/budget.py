"""Shorten a run to what a machine can do in a given time."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from statistics import median

import torch

from ziggurat.config.tree import TrainConfig
from ziggurat.engine.data import build_data, training_loader
from ziggurat.engine.model import build_model
from ziggurat.engine.optimizer import build_optimizer

WARM_UP_STEPS = 2
TIMED_STEPS = 5
TRAINING_SHARE = 0.85
"""Share of the time that goes to training steps; the rest is for validation and slow moments."""


def fit_to_minutes(config: TrainConfig, minutes: float, say: Callable[[str], None]) -> TrainConfig:
    """Return the run with as many steps as fit into the time, at most those it has.

    A few steps are measured with a model and data like the run's, on the CPU in one process; the
    schedule ends with the last step, so that a short run is a whole one. A limit a little above
    the estimate stays as `trainer.max_minutes`, should the machine become slower.

    Args:
        config: The run.
        minutes: Time for training and validation.
        say: Is told the outcome.
    """
    data = build_data(config)
    model = build_model(config, data, say, use_weights=False)
    optimizer = build_optimizer(model, config.optimizer, lr=1e-6)
    loader = training_loader(data, config, rank=0, world_size=1)
    seconds = []
    for batch in islice(loader, WARM_UP_STEPS + TIMED_STEPS):
        start = time.monotonic()
        raw = model(batch.images, batch.image_sizes)
        losses = model.loss(raw, batch.targets, batch.image_sizes)  # type: ignore[arg-type]
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        seconds.append(time.monotonic() - start)
    step = median(seconds[WARM_UP_STEPS:] or seconds) * config.trainer.accumulate
    steps_per_epoch = -(-len(loader) // config.trainer.accumulate)
    whole = config.trainer.max_steps or config.trainer.max_epochs * steps_per_epoch
    steps = max(1, min(whole, int(TRAINING_SHARE * 60 * minutes / step)))
    epochs = -(-steps // steps_per_epoch)
    say(
        f"a step takes {step:.2f} s here: {steps} of {whole} steps, {epochs} epochs, "
        f"fit into {minutes:g} minutes"
    )
    trainer = replace(config.trainer, max_epochs=epochs, max_steps=steps, max_minutes=minutes)
    return replace(config, trainer=trainer)
