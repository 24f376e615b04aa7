"""What a run says while it trains: plain lines, readable in a terminal and in a log file."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ziggurat.engine.logs import CsvLog
from ziggurat.engine.module import TrainingModule
from ziggurat.types import Batch

SECONDS_BETWEEN_LINES = 5.0


class Progress(Callback):
    """Says loss, learning rate, speed and time left every few seconds, and logs them.

    The logs also get the norm of all gradients together, before it is limited, and the time that
    the run has taken.

    Args:
        module: What is trained.
        log_every_steps: Optimizer steps between entries of the logs; each entry is a mean.
        say: Takes the lines.
    """

    def __init__(
        self, module: TrainingModule, log_every_steps: int, say: Callable[[str], None]
    ) -> None:
        self.module = module
        self.log_every_steps = log_every_steps
        self.say = say
        self._logged = _Window()
        self._said = _Window()
        self._start_step = self._first_step = self._last_step = 0
        self._begin = self._first_end = 0.0
        self._seconds_before = 0.0
        self._gradient_norm: Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count; what a checkpoint brought since the last entry of the logs counts too."""
        self._logged.begin = time.monotonic()
        self._said = _Window()
        self._start_step = self._last_step = trainer.global_step
        self._begin = time.monotonic()
        for logger in trainer.loggers:
            if isinstance(logger, CsvLog):
                logger.rewind(trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the time so far, and what the next entry is a mean of."""
        window = self._logged
        return {"seconds": self._seconds, "batches": window.batches, "sums": dict(window.sums)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from a checkpoint."""
        self._seconds_before = state_dict["seconds"]
        self._logged.batches = state_dict["batches"]
        self._logged.sums = dict(state_dict["sums"])

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Measure the gradients of the steps that are logged."""
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if is_last or (trainer.global_step + 1) % self.log_every_steps == 0:
            gradients = [p.grad for p in self.module.model.parameters() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            self._gradient_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count a batch, and say or log where it is due."""
        images = len(batch.infos) * trainer.world_size
        for window in (self._logged, self._said):
            window.add(self.module.losses, images)
        step = trainer.global_step
        if step == self._last_step:
            return
        if self._last_step == self._start_step:
            self._first_step, self._first_end = step, time.monotonic()
        self._last_step = step
        if step % self.log_every_steps == 0:
            self._log(trainer)
        total = self.module.schedule.total_steps
        if self._said.seconds >= SECONDS_BETWEEN_LINES or step in (1, total):
            self._say(trainer, total)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what is left of the epoch, so that a short run has its curve too."""
        if self._logged.batches:
            self._log(trainer)

    def pause(self, seconds: float) -> None:
        """Leave time out of the images per second, in which nothing was trained.

        Args:
            seconds: How long that was, up to now.
        """
        for window in (self._logged, self._said):
            window.pauses += seconds

    @property
    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._begin

    def _log(self, trainer: Trainer) -> None:
        numbers = {f"train/{name}": value for name, value in self._logged.means().items()}
        numbers["train/lr"] = _lr(trainer)
        numbers["train/images_per_second"] = self._logged.images_per_second
        numbers["train/seconds"] = self._seconds
        norm = math.nan if self._gradient_norm is None else float(self._gradient_norm)
        if math.isfinite(norm):  # in fp16 a step may be skipped because it is not
            numbers["train/gradient_norm"] = norm
        self._gradient_norm = None
        for logger in trainer.loggers:
            logger.log_metrics(numbers | {"epoch": trainer.current_epoch}, trainer.global_step)
        self._logged = _Window()

    def _say(self, trainer: Trainer, total: int) -> None:
        step = trainer.global_step
        left = self._time_left(step, total)
        means = self._said.means()
        terms = ", ".join(f"{name} {value:.4g}" for name, value in means.items() if name != "loss")
        detail = f" ({terms})" if len(means) > 2 else ""
        epochs = -(-total // self.module.schedule.steps_per_epoch)  # the last one may be a part
        self.say(
            f"epoch {trainer.current_epoch + 1}/{epochs}  step {step}/{total}  "
            f"loss {means['loss']:.4f}{detail}  lr {_lr(trainer):.2e}  "
            f"{self._said.images_per_second:.1f} images/s  {left}"
        )
        self._said = _Window()

    def _time_left(self, step: int, total: int) -> str:
        """Judge by the steps after the first, which waits for everything to start."""
        now = time.monotonic()
        if step == self._first_step:
            return "time left not known yet"
        left = (now - self._first_end) / (step - self._first_step) * (total - step)
        minutes = self.module.config.trainer.max_minutes
        if minutes is not None:
            left = min(left, 60.0 * minutes - (now - self._begin))
        return f"{duration(max(left, 0.0))} left"


def _lr(trainer: Trainer) -> float:
    """Learning rate of the last step, before the factors of parts of the model."""
    group = trainer.optimizers[0].param_groups[0]
    lr: float = group["lr"] / group["lr_factor"]
    return lr


class _Window:
    """Sums since the last line or entry."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.pauses = 0.0
        self.batches = 0
        self.images = 0
        self.sums: dict[str, float] = {}

    def add(self, losses: dict[str, float], images: int) -> None:
        self.batches += 1
        self.images += images
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: value / self.batches for name, value in self.sums.items()}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begin - self.pauses

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)


def duration(seconds: float) -> str:
    """Word a duration: "45 s", "12:30 min", "3:05 h", "4.2 days"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"
    if seconds < 48 * 3600:
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"
    return f"{seconds / 86400:.1f} days"
