"""Validation: decode every image once, count, keep the best weights."""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from ziggurat.checkpoints.atomic import atomic_write
from ziggurat.checkpoints.native import save_weights
from ziggurat.data.loading import EvaluationLoader
from ziggurat.engine.bad_loss import NotFiniteError, nonfinite_entry
from ziggurat.engine.checkpointing import EPOCHS_DONE, validates_at
from ziggurat.engine.data import batch_to, validation_loader
from ziggurat.engine.endings import out_of_memory
from ziggurat.engine.interrupts import Interrupted, SignalWatch
from ziggurat.engine.module import TrainingModule
from ziggurat.engine.nonfinite import holds_nan
from ziggurat.engine.samples import Samples
from ziggurat.errors import ZigguratError
from ziggurat.inference.forward import seen_at_once
from ziggurat.metrics.base import Metric, Report
from ziggurat.types import Batch, Result
from ziggurat.zoo import Model

State = TypeVar("State")

RECORD = "validations"
"""Entry of a checkpoint with what metrics.json said when it was written."""


class Validation(Callback):
    """Validates every few epochs or steps and at the end; writes the best weights and metrics.json.

    TensorBoard gets pictures of what was found on the first few images.

    Args:
        module: What is trained, with its data.
        output: Folder of the run.
        evaluated: Gives the model to validate: the trained one, or its running mean.
        signals: Says whether the user wants to stop.
        say: Is told the result.
        pause: Is told the seconds in which was validated.
        resume: Whether the run goes on, and with it the record of its best validation.
    """

    def __init__(
        self,
        module: TrainingModule,
        output: Path,
        evaluated: Callable[[], Model],
        signals: SignalWatch,
        say: Callable[[str], None],
        pause: Callable[[float], None],
        *,
        resume: bool,
    ) -> None:
        self.output = output
        self.module = module
        self.evaluated = evaluated
        self.signals = signals
        self.say = say
        self.pause = pause
        # None where it cannot be read; the checkpoint knows the validations before it.
        self._read = _read_record(output / "metrics.json") if resume else None
        self.record = self._read or {}
        self._epochs_done: int | None = None
        self._loader: EvaluationLoader | None = None
        self._metric: Metric | None = None
        self._samples = Samples()

    @property
    def best(self) -> dict[str, Any] | None:
        """What metrics.json says of the best weights."""
        return self.record.get("best")

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note whether the run goes on after a whole epoch; forget what it will do again."""
        self._epochs_done = checkpoint.get(EPOCHS_DONE)
        if self._read is None:
            self.record = json.loads(checkpoint.get(RECORD, "{}"))
            if self.record:
                self.say(
                    f"{self.output / 'metrics.json'} is missing or damaged; the checkpoint's "
                    "record of the validations before it takes its place"
                )
        last = self.record.get("last")
        if last is not None and last["step"] > checkpoint["global_step"]:
            del self.record["last"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the record, should metrics.json be lost; as text, which holds plain numbers."""
        checkpoint[RECORD] = json.dumps(self.record)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make up for a validation that the run was stopped before or in."""
        done = self._epochs_done
        after_epoch = done is not None and self._is_due_after(done)
        if after_epoch or validates_at(self.module.config.trainer, trainer.global_step):
            self.run(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate if it is due, or if this is the end of the run."""
        done = trainer.current_epoch + 1
        is_end = trainer.should_stop or done == trainer.max_epochs
        is_due = validates_at(self.module.config.trainer, trainer.global_step)
        if is_end or is_due or self._is_due_after(done):
            self.run(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401  Lightning's own
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Validate after a step that is due; the last one of an epoch is saved before that."""
        is_last = batch_idx + 1 == trainer.num_training_batches
        if not is_last and validates_at(self.module.config.trainer, trainer.global_step):
            self.run(trainer)

    def is_done(self, step: int) -> bool:
        """Say whether the weights of a step are validated."""
        last = self.record.get("last")
        return last is not None and last["step"] == step

    def run(self, trainer: Trainer) -> None:
        """Validate now, unless these weights are validated.

        Args:
            trainer: Lightning's trainer.

        Raises:
            ZigguratError: If it does not fit into memory.
        """
        if self.is_done(trainer.global_step):
            return
        start = time.monotonic()
        model = self.evaluated()
        try:
            report = self._evaluate(model, trainer)
        except torch.OutOfMemoryError as error:
            raise ZigguratError(
                f"validation at step {trainer.global_step} does not fit into the memory of its "
                f"device with data.eval_batch_size {self.module.config.data.eval_batch_size} "
                f"({out_of_memory(error)}); lower it, which --resume takes"
            ) from error
        self._keep(report, model, trainer)
        numbers = {
            f"val/{name}": value for name, value in report.numbers.items() if not math.isnan(value)
        }
        for logger in trainer.loggers:
            logger.log_metrics(numbers | {"epoch": self._epoch(trainer)}, trainer.global_step)
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                self._samples.log(logger, model, trainer.global_step)
            logger.save()
        best = self.best["value"] if self.best else report.value
        seconds = time.monotonic() - start
        self.say(
            f"validation at step {trainer.global_step}: {report.primary} {in_words(report.value)} "
            f"(best {in_words(best)}) on {report.num_images} images in {seconds:.0f} s"
        )
        self.pause(seconds)

    def _is_due_after(self, epochs: int) -> bool:
        wanted = self.module.config.trainer
        return wanted.val_every_steps is None and epochs % wanted.val_every_epochs == 0

    def _epoch(self, trainer: Trainer) -> int:
        """The epoch of the last step, which is the same when its validation is made up for."""
        return max(trainer.global_step - 1, 0) // self.module.schedule.steps_per_epoch

    def _evaluate(self, model: Model, trainer: Trainer) -> Report:
        if self._loader is None or self._metric is None:
            self._loader = validation_loader(
                self.module.data,
                self.module.config,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
                is_pinned=trainer.strategy.root_device.type == "cuda",
            )
            self._metric = self.module.data.new_metric(model.classes)
        metric = self._metric
        metric.reset()
        bad: Batch | None = None
        is_stopped = False
        if trainer.world_size > 1:
            # Statistics of batch norms differ by process; the first one's count, which are saved.
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode(), trainer.precision_plugin.forward_context():
                for batch in self._loader:
                    if self.signals.received:
                        is_stopped = True
                        break
                    self.module.ledger.add(batch.skipped)
                    if not batch.infos:
                        continue
                    results = _find(model, batch_to(batch, trainer.strategy.root_device))
                    if results is None:
                        bad = batch
                        break
                    metric.update(results, batch)
                    if trainer.is_global_zero:
                        self._samples.add(batch, results, model.preprocessing)
        finally:
            model.train(was_training)
        fault = None if bad is None else _describe_nan(model, bad)
        outcomes = _gather((fault, is_stopped), trainer.world_size)
        for found, _ in outcomes:  # all processes stop, none is left waiting
            if found is not None:
                raise NotFiniteError(f"validation at step {trainer.global_step}: {found}")
        if any(stops for _, stops in outcomes):
            raise Interrupted
        metric.merge(_gather(metric.state(), trainer.world_size))
        return metric.compute()

    def _keep(self, report: Report, model: Model, trainer: Trainer) -> None:
        """Note the report on every process; the first one writes.

        The best weights go first: metrics.json speaks of files that exist.
        """
        entry = {
            "step": trainer.global_step,
            "epoch": self._epoch(trainer),
            "value": None if math.isnan(report.value) else report.value,
            **report.to_json(),
        }
        if self.best is None or _is_better(report.value, self.best["value"]):
            if trainer.is_global_zero:
                save_weights(model, self.output / "best.safetensors")
            self.record["best"] = entry
        self.record["last"] = entry
        if not trainer.is_global_zero:
            return
        content = json.dumps(self.record, indent=2).encode()
        atomic_write(self.output / "metrics.json", lambda file: file.write(content))


def _find(model: Model, batch: Batch) -> list[Result] | None:
    """Return what a model says of each image of a batch, None where it says what is no number."""
    found: list[Result] = []
    for part in seen_at_once(model, batch):
        raw = model(part.images, part.image_sizes)
        if holds_nan(raw):
            return None
        found += model.decode(raw, part.image_sizes, [info.original_size for info in part.infos])
    return found


def in_words(value: float | None) -> str:
    """Word a number of a report; a dash where there was nothing to count."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def _is_better(value: float, best: float | None) -> bool:
    return not math.isnan(value) and (best is None or value > best)


def _gather(state: State, world_size: int) -> Sequence[State]:
    if world_size == 1:
        return [state]
    states: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(states, state)
    return states


def _describe_nan(model: Model, batch: Batch) -> str:
    entry = nonfinite_entry(model)
    reason = "the weights are finite" if entry is None else f"the weights are not finite ({entry})"
    images = ", ".join(str(info.path) for info in batch.infos)
    return f"what the model finds on {images} is no number, {reason}"


def _read_record(path: Path) -> dict[str, Any] | None:
    """Read metrics.json; None where it is not there or not whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    entries = content.values() if isinstance(content, dict) else [content]
    whole = all(isinstance(entry, dict) and {"step", "value"} <= entry.keys() for entry in entries)
    record: dict[str, Any] | None = content if whole else None
    return record
