"""Shorten a run to what a machine can do in a given time."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import torch

from ziggurat.config.tree import TrainConfig
from ziggurat.engine.data import build_data, training_loader
from ziggurat.engine.memory import keep_memory, runs_on_cpu
from ziggurat.engine.model import build_model, prepare_model
from ziggurat.engine.optimizer import build_optimizer
from ziggurat.engine.schedule import build_schedule
from ziggurat.losses.total import total_loss
from ziggurat.ops.machine import processor_name

WARM_UP_STEPS = 4
TIMED_STEPS = 8
TRAINING_SHARE = 0.92
"""Share of the time that goes to training steps; the rest is for validation."""


def fit_to_minutes(config: TrainConfig, minutes: float, say: Callable[[str], None]) -> TrainConfig:
    """Return the run with as many steps as fit into the time, at most those it has.

    On a CPU a few steps are measured with a model and data like the run's; the schedule ends with
    the last step that fits, so that a short run is a whole one. The time itself stays as
    `trainer.max_minutes`, and the schedule follows the clock should the machine become slower.
    With a GPU only that limit is set.

    Args:
        config: The run.
        minutes: Time for training and validation.
        say: Is told the outcome.
    """
    limited = replace(
        config,
        trainer=replace(config.trainer, max_minutes=minutes),
        schedule=replace(config.schedule, follow_clock=config.schedule.can_hurry),
    )
    if not runs_on_cpu(config.trainer):
        return limited
    keep_memory(config.trainer)
    data = build_data(config)
    model = build_model(config, data, say, use_weights=False)
    prepare_model(model, config, lambda _: None)
    optimizer = build_optimizer(model, config.optimizer, lr=1e-6, is_fused=True)
    loader = training_loader(data, config, rank=0, world_size=1)
    seconds = []
    start = time.monotonic()  # a step takes the wait for its batch, too
    is_mixed = config.trainer.precision == "bf16"
    for batch in islice(loader, WARM_UP_STEPS + TIMED_STEPS):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            raw = model(batch.images, batch.image_sizes)
            losses = model.loss(raw, batch.targets, batch.image_sizes)  # type: ignore[arg-type]
        optimizer.zero_grad()
        total_loss(losses).backward()
        optimizer.step()
        now = time.monotonic()
        seconds.append(now - start)
        start = now
    # The fastest: a run cut short by the limit loses its last, small steps, an idle one more.
    step = min(seconds[WARM_UP_STEPS:] or seconds) * config.trainer.accumulate
    whole = build_schedule(config, len(loader))
    steps = max(1, min(whole.total_steps, int(TRAINING_SHARE * 60 * minutes / step)))
    epochs = -(-steps // whole.steps_per_epoch)
    say(
        f"a step takes {step:.2f} s here: {steps} of {whole.total_steps} steps, {epochs} epochs, "
        f"fit into {minutes:g} minutes"
    )
    if config.trainer.max_epochs is not None:
        limited = replace(limited, trainer=replace(limited.trainer, max_epochs=epochs))
    trainer = replace(limited.trainer, max_steps=steps)
    return replace(limited, trainer=trainer)


def describe_machine() -> str:
    """Say what figures are measured on: device, cores, version of PyTorch."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    cores = f"{os.cpu_count()} CPU cores"
    return f"{cores} ({processor_name()}), torch {torch.__version__}"
