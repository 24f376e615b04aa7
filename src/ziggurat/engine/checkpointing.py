"""The checkpoint a run goes on from: when it is written, and from where exactly it continues.

A checkpoint always stands between two optimizer steps, so that a resumed run repeats an
uninterrupted one, on one CPU bit by bit. A GPU adds some sums up in another order every time.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from ziggurat.checkpoints.native import save_weights
from ziggurat.config.tree import TrainerConfig
from ziggurat.engine.bad_loss import NotFiniteError, nonfinite_entry
from ziggurat.engine.checkpoint_files import CheckpointFiles, Start, read_checkpoint
from ziggurat.engine.interrupts import Interrupted, SignalWatch
from ziggurat.errors import ZigguratError
from ziggurat.zoo import Model

EPOCHS_DONE = "epochs_done"
"""Entry of a checkpoint that stands between two epochs."""


def validates_at(config: TrainerConfig, step: int) -> bool:
    """Say whether a run is validated after a step because of the number of the step.

    Args:
        config: How often it is validated.
        step: Optimizer steps done.
    """
    every = config.val_every_steps
    return every is not None and step > 0 and step % every == 0


class SafeCheckpointIO(CheckpointIO):
    """Writes a checkpoint whole or not at all, and reads it without running anything in it.

    Args:
        files: The checkpoints of the run.
    """

    def __init__(self, files: CheckpointFiles) -> None:
        self.files = files

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What Lightning wants to keep.
            path: The newest of the run's files.
            storage_options: Not supported.

        Raises:
            TypeError: If there are storage options.
            ValueError: If the path is another.
        """
        if storage_options is not None:
            raise TypeError(f"storage_options are not supported, got {storage_options!r}")
        if Path(path) != self.files.newest:
            raise ValueError(f"a run writes {self.files.newest} only, got {path}")
        self.files.add(checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint into the main memory.

        Args:
            path: File to read.
            map_location: Ignored by design of the caller: Lightning moves what it needs.
            weights_only: Anything but False; a checkpoint never runs code.

        Raises:
            ZigguratError: If it may run code.
        """
        if weights_only is False:
            raise ZigguratError(f"{path} is only read with weights_only=True")
        del map_location
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


class Checkpointing(Callback):
    """Saves at the end of an epoch, before a validation, every few minutes, and before a stop.

    Args:
        files: The checkpoints of the run.
        start: Checkpoint the run goes on from, if any.
        config: Limits of the run and minutes between checkpoints.
        signals: Says whether the user wants to stop.
        begin: Writes what a run has from its beginning, when all its parts have been found to fit.
        export: Gives the model whose weights are kept beside the checkpoint.
        say: Is told why a run ends early.
        pause: Is told the seconds in which a checkpoint was written.
    """

    def __init__(
        self,
        files: CheckpointFiles,
        start: Start | None,
        config: TrainerConfig,
        signals: SignalWatch,
        begin: Callable[[], None],
        export: Callable[[], Model],
        say: Callable[[str], None],
        pause: Callable[[float], None],
    ) -> None:
        self.files = files
        self.start = start
        self.config = config
        self.signals = signals
        self.begin = begin
        self.export = export
        self.say = say
        self.pause = pause
        self.position: int | None = None
        self.ends_within_epoch = False
        self._start = self._last_save = time.monotonic()
        self._is_updating = False
        self._is_epoch_end = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out whether all processes see the same checkpoint.

        Raises:
            ZigguratError: If not.
        """
        del stage  # only `fit` is used
        if trainer.world_size == 1:
            return
        steps: list[int | None] = [None] * trainer.world_size
        own = None if self.start is None else self.start.step
        torch.distributed.all_gather_object(steps, own)
        if len(set(steps)) > 1:
            raise ZigguratError(
                f"all processes must go on from the same step, got {steps}, one for each process; "
                f"--output must be a folder that all machines see, expected {self.files.folder} to "
                "be the same everywhere"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin: data, model and schedule are built."""
        if trainer.is_global_zero:
            self.begin()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning; end at once where nothing is left to do."""
        self.signals.install()
        self.signals.is_training = True
        if self.start is not None:  # it may have been killed before it wrote them
            model = self.export()
            if nonfinite_entry(model) is None:
                self._write_weights(trainer, model)
        self._start = self._last_save = time.monotonic()
        if self._limit(trainer, is_late=False):
            self.ends_within_epoch = True
            trainer.should_stop = True

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Note that nothing has changed since the last step."""
        self._is_updating = False

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: object
    ) -> None:
        """Note that from here to the next batch the weights belong to no batch in work."""
        self._is_updating = True

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Save and stop where it is due and a step has just ended.

        Raises:
            Interrupted: If the user wants to stop.
        """
        done = batch_idx + 1
        is_last = done == trainer.num_training_batches
        if done % trainer.accumulate_grad_batches and not is_last:
            return
        now = time.monotonic()
        minutes = self.config.max_minutes
        stops, is_late, is_due = self._agree(
            trainer,
            self.signals.received > 0,
            minutes is not None and now - self._start >= 60.0 * minutes,
            now - self._last_save >= 60.0 * self.config.save_every_minutes,
        )
        limit = self._limit(trainer, is_late=is_late)
        if is_last:
            # The end of the epoch follows, which saves; here the run would be neither nor.
            trainer.should_stop = trainer.should_stop or limit is not None
            return
        # A validation may take long, and whatever stops the run in it costs no step.
        if stops or limit or is_due or validates_at(self.config, trainer.global_step):
            self.save(trainer, position=done)
        if stops:
            raise Interrupted
        if limit:
            self.say(f"stopping at step {trainer.global_step}: {limit}")
            self.ends_within_epoch = True
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the whole epoch, unless a limit ended it early and it is saved.

        Raises:
            Interrupted: If the user wants to stop.
        """
        self._is_epoch_end = True
        if not self.ends_within_epoch:
            self.save(trainer, position=None)
            (stops,) = self._agree(trainer, self.signals.received > 0)
            if stops:
                raise Interrupted

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that an epoch is under way."""
        self._is_epoch_end = False

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save when an interruption came in the middle of a step, from the step's beginning."""
        if not isinstance(exception, KeyboardInterrupt) or isinstance(exception, Interrupted):
            return
        started = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        done = started - started % trainer.accumulate_grad_batches
        is_between = self._is_updating or self._is_epoch_end or self.ends_within_epoch
        if self.signals.received > 1 or is_between or not self.signals.is_training:
            return
        if trainer.world_size == 1 and done < trainer.num_training_batches:
            self.save(trainer, position=done)

    def save(self, trainer: Trainer, *, position: int | None) -> None:
        """Write the checkpoint and the weights beside it.

        Args:
            trainer: Lightning's trainer.
            position: Batches of this epoch that are done, or None at its end.

        Raises:
            NotFiniteError: If the weights are not finite: the last good ones stay.
        """
        begin = time.monotonic()
        self.position = position
        model = self.export()  # which all processes may have to put together
        bad = nonfinite_entry(model)
        (is_bad,) = self._agree(trainer, bad is not None)
        if is_bad:
            raise NotFiniteError(
                f"the weights are not finite after step {trainer.global_step} "
                f"({bad or 'in another process'}) and are not saved"
            )
        # First the checkpoint: without one, a folder with weights cannot be gone on with.
        trainer.save_checkpoint(self.files.newest)
        self._write_weights(trainer, model)
        self._last_save = time.monotonic()
        self.pause(self._last_save - begin)

    def _write_weights(self, trainer: Trainer, model: Model) -> None:
        if trainer.is_global_zero:
            save_weights(model, self.files.folder.parent / "last.safetensors")

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the checkpoint go on with the batch after the last finished step."""
        if self.position is None:
            checkpoint[EPOCHS_DONE] = trainer.current_epoch + 1
            return
        loop = checkpoint["loops"]["fit_loop"]
        progress = loop["epoch_loop.batch_progress"]
        undone = progress["current"]["ready"] - self.position
        total = progress["total"]["ready"] - undone
        for key, count in (("current", self.position), ("total", total)):
            progress[key] = dict.fromkeys(progress[key], count)
        progress["is_last_batch"] = False
        # Lightning counts the step when its batch has ended, which is after this.
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] = trainer.global_step
        for state in loop["state_dict"]["combined_loader"]:
            state["handed_out"] = self.position

    def _limit(self, trainer: Trainer, *, is_late: bool) -> str | None:
        """Say which limit has been reached, if any."""
        steps = self.config.max_steps
        if steps is not None and trainer.global_step >= steps:
            return f"trainer.max_steps is {steps}"
        return f"trainer.max_minutes is {self.config.max_minutes:g}" if is_late else None

    @staticmethod
    def _agree(trainer: Trainer, *decisions: bool) -> list[bool]:
        """Decide alike on all processes: yes where one says yes."""
        if trainer.world_size == 1:
            return list(decisions)
        votes = torch.tensor(decisions, dtype=torch.int32, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MAX)
        return [bool(vote) for vote in votes.tolist()]
