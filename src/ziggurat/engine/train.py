"""Train: from a run's configuration to a folder with weights, metrics and a way to go on.

The folder holds run.yaml, checkpoints/, best.safetensors, last.safetensors, metrics.csv,
metrics.json and tensorboard/.
"""

import logging
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy, Strategy

from ziggurat.checkpoints.atomic import remove_leftovers
from ziggurat.config.tree import TrainConfig, TrainerConfig
from ziggurat.data.loading import BadFileLedger
from ziggurat.engine.bad_loss import NotFiniteError
from ziggurat.engine.checkpoint_files import CheckpointFiles, Start, read_checkpoint
from ziggurat.engine.checkpointing import Checkpointing, SafeCheckpointIO
from ziggurat.engine.data import RunData, build_data
from ziggurat.engine.distillation import build_distillation
from ziggurat.engine.ema import WeightMean, lag_of_mean
from ziggurat.engine.endings import (
    LOST_WORKER,
    how_to_go_on,
    how_to_stay_finite,
    what_did_not_fit,
    what_failed,
    what_was_lost,
)
from ziggurat.engine.interrupts import Interrupted, SignalWatch
from ziggurat.engine.labelled_share import check_labelled, notes_of_labels
from ziggurat.engine.largest_batch import check_largest_batches
from ziggurat.engine.length import (
    as_many_images,
    unreached_limit,
    what_was_scaled,
    with_scaled_steps,
)
from ziggurat.engine.logs import CsvLog, tensorboard_log
from ziggurat.engine.memory import keep_memory
from ziggurat.engine.model import build_model, prepare_model
from ziggurat.engine.module import TrainingModule
from ziggurat.engine.output import RunFolder, with_absolute_paths
from ziggurat.engine.precision import faster_precision, products_in
from ziggurat.engine.processes import (
    check_device,
    check_sharded,
    devices_and_nodes,
    is_first_process,
    may_hang_when_begun_again,
)
from ziggurat.engine.progress import Progress
from ziggurat.engine.same_data import DATA, check_same_data
from ziggurat.engine.sharded import FullySharded, WholeModel
from ziggurat.engine.slurm import cluster_environment, requeue
from ziggurat.engine.validation import Validation, in_words
from ziggurat.errors import ZigguratError
from ziggurat.zoo import Model

LOG = logging.getLogger(__name__)
PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "tf32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
HARMLESS = (
    r".*does not have many workers.*",  # data.workers is the user's choice
    # A depthwise convolution's weight has one layout under two names.
    r"(?s).*Grad strides do not match bucket view strides.*",
    r".*did not find any unused parameters.*",  # which ones there are differs by the image
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # inside Lightning
    r"Found \d+ module\(s\) in eval mode",  # the frozen stages of a ResNet
)


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
        best: Weights of the best validation.
        metrics: Content of metrics.json: the "best" and the "last" validation.
    """

    best: Path
    metrics: dict[str, Any]


def train(
    config: TrainConfig,
    output: str | Path,
    *,
    resume: bool | Literal["auto"] = False,
    is_recipe: bool = False,
    given: Collection[str] = (),
    say: Callable[[str], None] = LOG.info,
) -> RunResult:
    """Train a model, or go on with a run that was stopped.

    Args:
        config: The run, as `load_run` reads it.
        output: Folder of the run.
        resume: Whether to go on with the run in the folder; "auto" does where there is one.
        is_recipe: Whether the run is a recipe but for the fields `given`; lines say where its
            number of steps is meant for other batches.
        given: Fields that were set for this call, as "trainer.max_steps"; lines say where one of
            them cannot have its way.
        say: Takes lines about what happens, as `print` does; by default they are logged.

    Raises:
        ZigguratError: If the data, the weights, the folder or the disk do not allow it, the loss
            is no number, a step does not fit into memory, or a process that reads data is killed.
        RuntimeError: If torch fails in any other way.
        Interrupted: If Ctrl-C or SIGTERM stopped it; the message says how to go on.
    """
    config = with_absolute_paths(config)
    folder = RunFolder(Path(output))
    files = CheckpointFiles(folder.checkpoints, config.trainer.keep_checkpoints)
    speak = say if is_first_process() else _say_nothing
    with (
        _quiet_lightning(),
        products_in(config.trainer.precision),
        SignalWatch(speak) as signals,
    ):
        try:
            goes_on = folder.holds_run if resume == "auto" else resume
            start = _start(config, folder, files, speak) if goes_on else None
            if not goes_on and is_first_process():
                folder.check_new()
            if may_hang_when_begun_again():
                speak(
                    "torchrun --max-restarts may hang when it begins again; start it with "
                    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment"
                )
            run = _Run(config, folder, files, start, signals, speak, given, is_recipe=is_recipe)
            with folder.claimed(is_new=not goes_on) if is_first_process() else nullcontext():
                return run.fit()
        except (KeyboardInterrupt, SystemExit) as error:
            # Lightning turns an interruption into SystemExit when it has cleaned up.
            message = how_to_go_on(files, folder)
            if signals.wants_requeue and files.newest.is_file() and is_first_process():
                message = f"{message}; {requeue()}"
            raise Interrupted(message) from error
        except NotFiniteError as error:
            raise ZigguratError(how_to_stay_finite(files, folder, config, error)) from error
        except OSError as error:
            raise ZigguratError(what_failed(files, folder, error)) from error
        except torch.OutOfMemoryError as error:
            raise ZigguratError(what_did_not_fit(files, folder, config, error)) from error
        except RuntimeError as error:
            if not str(error).startswith(LOST_WORKER):
                raise
            raise ZigguratError(what_was_lost(files, folder, error)) from error


def _start(
    config: TrainConfig, folder: RunFolder, files: CheckpointFiles, say: Callable[[str], None]
) -> Start | None:
    """Find where a run goes on from; None where it was stopped before its first checkpoint."""
    changes = folder.check_resumable(config) if is_first_process() else []
    start = files.choose(say)
    if start is None:
        folder.check_may_begin()
        say(f"no checkpoint in {files.folder} yet, beginning at step 0")
    for change in changes:
        say(change)
    return start


class _Run:
    """The parts of one call of `train`, wired together."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        files: CheckpointFiles,
        start: Start | None,
        signals: SignalWatch,
        say: Callable[[str], None],
        given: Collection[str],
        *,
        is_recipe: bool,
    ) -> None:
        self.config, self.folder, self.files, self.start = config, folder, files, start
        self.signals, self.say = signals, say
        self.given, self.is_recipe = given, is_recipe
        self.epochs_before = 0
        keep_memory(config.trainer)
        torch.manual_seed(config.trainer.seed)
        data = build_data(config)
        if start is None:
            check_labelled(data, config.data.root)
        else:
            checkpoint = read_checkpoint(start.path, mmap=True)
            self.epochs_before = checkpoint["epoch"]
            if DATA in checkpoint:  # those of earlier versions do not say it
                check_same_data(checkpoint[DATA], data, folder.path, config.data.root)
        self.as_given = config
        config = self.config = with_scaled_steps(config, data, _num_processes(config.trainer))
        model = build_model(config, data, say, use_weights=start is None)
        ledger = BadFileLedger(
            config.data.max_bad_files,
            lambda file: say(f"skipped, cannot be decoded: {file.path}: {file.reason}"),
        )
        frozen = prepare_model(model, config, say)
        distillation = build_distillation(config, model, say)
        self.module = TrainingModule(model, config, data, ledger, folder.path, frozen, distillation)
        is_sharded = config.trainer.strategy == "fsdp"
        self.whole = WholeModel(model) if is_sharded else None
        decay = config.trainer.ema_decay
        self.mean = None if decay is None else WeightMean(model, decay)
        self.progress = Progress(self.module, config.trainer.log_every_steps, say)
        self.validation = Validation(
            self.module,
            folder.path,
            self._evaluated,
            signals,
            say,
            self.progress.pause,
            resume=start is not None,
        )
        self.trainer = self._build_trainer(config.trainer)
        check_largest_batches(model, config, data.divisor, self.trainer.strategy.root_device)
        self._introduce(data, model)

    def fit(self) -> RunResult:
        """Train to the end of the run."""
        self.trainer.fit(self.module, ckpt_path=None if self.start is None else self.start.path)
        if not self.validation.is_done(self.trainer.global_step):
            # The run was stopped between its last step and the end of its validation.
            # The trained model is back on the CPU; its mean never left it where no step was done.
            self._evaluated().to(self.trainer.strategy.root_device)
            self.validation.run(self.trainer)
        best = self.validation.best
        if self.trainer.is_global_zero and best is not None:
            self.say(
                f"done: best {best['primary']} {in_words(best['value'])} at step {best['step']}, "
                f"weights in {self.folder.best}"
            )
        return RunResult(self.folder.best, self.validation.record)

    def _build_trainer(self, wanted: TrainerConfig) -> Trainer:
        checkpointing = Checkpointing(
            self.files,
            self.start,
            wanted,
            self.signals,
            self._begin,
            self._evaluated,
            self.say,
            self.progress.pause,
        )
        # The order matters: the mean is updated before it is saved, saved before it is validated.
        callbacks: list[Callback] = [self.progress, checkpointing, self.validation]
        if self.mean is not None:
            callbacks.insert(0, self.mean)
        trainer = self._new_trainer(wanted, callbacks)
        device = trainer.strategy.root_device.type
        check_device(wanted, device, trainer.world_size)
        return trainer

    def _new_trainer(self, wanted: TrainerConfig, callbacks: list[Callback]) -> Trainer:
        """Build the trainer, which is where Lightning looks for the devices.

        Raises:
            ZigguratError: If they are not there.
        """
        devices, nodes = devices_and_nodes(wanted)
        loggers = [
            CsvLog(self.folder.path / "metrics.csv", resume=self.start is not None),
            tensorboard_log(self.folder.path, None if self.start is None else self.start.step),
        ]
        plugins: list[Any] = [SafeCheckpointIO(self.files)]
        environment = cluster_environment()
        if environment is not None:
            plugins.append(environment)
        strategy = _strategy(self.config)
        epochs = wanted.max_epochs
        if epochs is not None:  # a run that has done more shall end at once
            epochs = max(epochs, self.epochs_before)
        try:
            return Trainer(
                accelerator=wanted.accelerator,
                devices=devices or "auto",
                num_nodes=nodes,
                strategy=strategy,
                precision=PRECISIONS[wanted.precision],
                max_epochs=-1 if epochs is None else epochs,
                accumulate_grad_batches=wanted.accumulate,
                gradient_clip_val=wanted.clip_norm,
                sync_batchnorm=wanted.sync_batch_norm,
                callbacks=callbacks,
                logger=loggers,
                plugins=plugins,
                default_root_dir=self.folder.path,
                log_every_n_steps=1,
                num_sanity_val_steps=0,
                limit_val_batches=0,
                use_distributed_sampler=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
        except (MisconfigurationException, RuntimeError, ValueError) as error:
            raise ZigguratError(
                f"trainer.accelerator {wanted.accelerator} with trainer.devices {devices} and "
                f"trainer.nodes {nodes} cannot be had here: {' '.join(str(error).split())}; "
                "choose others, or leave them out to take what there is"
            ) from error

    def _begin(self) -> None:
        for path in (self.folder.path, self.folder.checkpoints):
            remove_leftovers(path)
        self.folder.write_run(self.as_given)
        schedule, images = self.module.schedule, self.module.images_per_step
        has_own_length = self.start is not None or "trainer.max_steps" in self.given
        notes = (
            self.module.describe_lr(),
            what_was_scaled(self.as_given, self.config),
            as_many_images(self.config, images) if self.is_recipe and not has_own_length else None,
            unreached_limit(self.config.trainer, schedule.steps_per_epoch, self.given),
            schedule.shortening,
            None if self.mean is None else lag_of_mean(self.mean.decay, schedule.total_steps),
        )
        for note in notes:
            if note is not None:
                self.say(note)

    def _evaluated(self) -> Model:
        if self.whole is not None:
            return self.whole.gather()
        return self.module.model if self.mean is None else self.mean.model

    def _introduce(self, data: RunData, model: Model) -> None:
        count = sum(parameter.numel() for parameter in model.parameters())
        self.say(
            f"{model.identity.name}: {count / 1e6:.1f} M parameters, {len(model.classes)} classes; "
            f"{len(data.train)} training and {len(data.val)} validation images"
        )
        begins_here = self.start is None and is_first_process()
        for note in (*data.notes, *(notes_of_labels(data) if begins_here else ())):
            self.say(note)
        device = self.trainer.strategy.root_device.type
        faster = faster_precision(self.config.trainer.precision, device)
        if faster is not None:
            self.say(faster)


def _num_processes(wanted: TrainerConfig) -> int:
    """Return how many processes train together, before there is a trainer."""
    devices, nodes = devices_and_nodes(wanted)
    on_gpus = wanted.accelerator in ("auto", "cuda")
    here = devices or (torch.cuda.device_count() if on_gpus else 1)
    return max(here, 1) * nodes


def _strategy(config: TrainConfig) -> Strategy | str:
    """Choose how several processes share a step.

    A detector may leave parameters without gradients, always (PVTv2 normalises a map that RetinaNet
    does not read) or on one device (there is no mask to learn from), for which the other devices
    must not wait.
    """
    is_alone = _num_processes(config.trainer) == 1
    if config.trainer.strategy == "fsdp":
        check_sharded(config, is_alone=is_alone)
        return FullySharded()
    if config.task == "classification" or is_alone:
        return "auto" if is_alone else DDPStrategy()
    return DDPStrategy(find_unused_parameters=True)


def _say_nothing(line: str) -> None:
    """Take a line of a process other than the first, which says the same."""


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertisements and what means nothing to a user out of the log."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in HARMLESS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)
