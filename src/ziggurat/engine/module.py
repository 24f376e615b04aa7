"""The one Lightning module: it adds whatever losses a model names and knows no task."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from ziggurat.config.tree import TrainConfig
from ziggurat.data.classification import MixupCutmix
from ziggurat.data.loading import BadFileLedger, TrainingLoader
from ziggurat.engine.bad_loss import (
    NotFiniteError,
    describe_bad_loss,
    find_origin,
    save_batch,
)
from ziggurat.engine.data import RunData, batch_to, training_loader
from ziggurat.engine.distillation import Distillation
from ziggurat.engine.optimizer import build_optimizer, scaled_lr
from ziggurat.engine.same_data import DATA, describe_data
from ziggurat.engine.schedule import Schedule, build_schedule
from ziggurat.engine.sharded import FullySharded
from ziggurat.engine.single_values import explain_single_values
from ziggurat.losses.total import total_loss
from ziggurat.ops.processes import mean_over_processes
from ziggurat.types import Batch
from ziggurat.zoo import Model


class TrainingModule(LightningModule):
    """A model, its training data, its optimizer and its learning rate.

    Args:
        model: What is trained.
        config: The run.
        data: Data of the run.
        ledger: Is told of files that could not be decoded.
        folder: Folder of the run.
        frozen: Parts of the model that do not learn.
        distillation: What the model learns from a teacher, or None.
    """

    loader: TrainingLoader
    schedule: Schedule

    def __init__(
        self,
        model: Model,
        config: TrainConfig,
        data: RunData,
        ledger: BadFileLedger,
        folder: Path,
        frozen: Sequence[nn.Module] = (),
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        # Functions and tuples, not modules of this one: their entries would be saved, too.
        self.forward_pass: Callable[..., Any] = (
            torch.compile(model.forward) if config.trainer.compile else model.__call__
        )
        self.frozen = tuple(frozen)
        self.distillation = distillation
        self.config = config
        self.data = data
        self.ledger = ledger
        self.folder = folder
        self.losses: dict[str, float] = {}
        self.mixing = build_mixing(config, model.identity.num_classes)

    def setup(self, stage: str) -> None:
        """Build what depends on the number of processes, which is known by now."""
        del stage  # only `fit` is used
        config = self.config
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        self.loader = training_loader(
            self.data,
            config,
            rank=rank,
            world_size=world_size,
            is_pinned=self.trainer.strategy.root_device.type == "cuda",
        )
        accumulate = min(config.trainer.accumulate, len(self.loader))  # an epoch ends with a step
        self.trainer.accumulate_grad_batches = accumulate  # by which losses are divided
        self.images_per_step = config.data.batch_size * world_size * accumulate
        self.schedule = build_schedule(config, len(self.loader))
        if self.distillation is not None:
            self.distillation.to(self.trainer.strategy.root_device)

    def configure_model(self) -> None:
        """Divide the model among the processes where the strategy says so."""
        if isinstance(self.trainer.strategy, FullySharded):
            self.trainer.strategy.shard(self.model)

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return self.base_lr * self.schedule.factor(self._scheduled_step())

    def _scheduled_step(self) -> float:
        minutes = self.config.trainer.max_minutes
        if not self.config.schedule.follow_clock or minutes is None:
            return float(self.global_step)
        seconds = torch.tensor([time.monotonic() - self._begin], device=self.device)
        share = float(mean_over_processes(seconds)) / (60.0 * minutes)
        return self.schedule.keep_pace(self.global_step, self._first_step, share)

    @property
    def base_lr(self) -> float:
        """Learning rate for the images of a step, before the schedule."""
        return scaled_lr(self.config.optimizer, self.images_per_step)

    def describe_lr(self) -> str:
        """Say by which rule the learning rate follows the images of a step."""
        given, images = self.config.optimizer, self.images_per_step
        if given.reference_batch is None:
            return f"learning rate {given.lr:.3g}, whatever the {images} images a step"
        return (
            f"learning rate {self.base_lr:.3g} for {images} images a step: optimizer.lr "
            f"{given.lr:.3g} is meant for {given.reference_batch}"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint say which data its weights belong to."""
        checkpoint[DATA] = describe_data(self.data)

    def train_dataloader(self) -> TrainingLoader:
        """Give the batches of this process."""
        return self.loader

    def configure_optimizers(self) -> Optimizer:
        """Build the optimizer; the learning rate is set before every step."""
        trainer = self.config.trainer
        # torch has no fused SGD for parts of parameters.
        is_fused = trainer.precision != "fp16" and trainer.strategy != "fsdp"
        return build_optimizer(self.model, self.config.optimizer, self.base_lr, is_fused=is_fused)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Limit the norm of all gradients together.

        Args:
            optimizer: The optimizer.
            gradient_clip_val: Largest norm, or None for no limit.
            gradient_clip_algorithm: Which norm; Lightning's default is the L2 norm.
        """
        if self.config.trainer.precision == "bf16" and gradient_clip_val is not None:
            # Lightning lets no fused optimizer clip in mixed precision, since one could still have
            # to unscale the gradients. In bf16 they have no scale.
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Copy a batch to the device of this process."""
        del dataloader_idx  # there is one loader
        return batch_to(batch, device)

    def on_train_start(self) -> None:
        """Note where the time of `trainer.max_minutes` begins to run."""
        self._begin, self._first_step = time.monotonic(), self.global_step

    def on_train_epoch_start(self) -> None:
        """Choose the order of the epoch."""
        self.loader.set_epoch(self.current_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate, and the random numbers that dropout will draw.

        Both depend on the position in the run only, so that a resumed run repeats a whole one.
        """
        self.ledger.add(batch.skipped)
        for part in self.frozen:  # validation lets all parts train again
            part.eval()
        lr = self.lr  # once: by the clock it changes, and processes agree on it
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = lr * group["lr_factor"]
        self._seed(batch_idx)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the sum of the losses; raise if it is no finite number.

        Args:
            batch: Images and targets.
            batch_idx: Number of the batch in its epoch.
        """
        if self.mixing is not None:
            # Each device draws its own, as officially.
            number = self._position(batch_idx) * self.trainer.world_size + self.global_rank
            batch = self.mixing(batch, number)
        with explain_single_values(self.model, len(batch.images)):
            raw = self.forward_pass(batch.images, batch.image_sizes)
        loss: Callable[..., dict[str, Tensor]] = self.model.loss  # each has its kind of targets
        losses = loss(raw, batch.targets, batch.image_sizes)
        if self.distillation is not None:
            losses = self.distillation(batch.images, raw, losses)
        total = total_loss(losses)
        own = torch.stack([total, *losses.values()]).detach().float()
        names = ("loss", *losses)
        self.losses = dict(zip(names, mean_over_processes(own).tolist(), strict=True))
        # All processes see the mean, so that none is left waiting for one that stops.
        if not math.isfinite(self.losses["loss"]):
            self._seed(batch_idx)
            self._refuse(dict(zip(names, own.tolist(), strict=True)), batch)
        # Lightning divides by `every`; the last step of an epoch may have fewer batches.
        every = self.trainer.accumulate_grad_batches
        first = batch_idx - batch_idx % every
        return total * (every / min(every, len(self.loader) - first))

    def _seed(self, batch_idx: int) -> None:
        seed = (self.config.trainer.seed, self._position(batch_idx), self.global_rank)
        torch.manual_seed(hash(seed) % 2**63)  # hashes of numbers are the same everywhere

    def _position(self, batch_idx: int) -> int:
        return self.current_epoch * len(self.loader) + batch_idx

    def _refuse(self, losses: dict[str, float], batch: Batch) -> NoReturn:
        """Stop the run because of a loss that is no finite number.

        Raises:
            NotFiniteError: Always.
        """
        origin = find_origin(self.model, batch)
        if math.isfinite(losses.pop("loss")):
            raise NotFiniteError(
                f"the loss is no finite number at step {self.global_step} in another process, "
                "which says for which images"
            )
        rank = f"_process_{self.global_rank}" if self.trainer.world_size > 1 else ""
        file = self.folder / f"bad_batch_step_{self.global_step}{rank}.safetensors"
        save_batch(batch, self.global_step, file)
        raise NotFiniteError(describe_bad_loss(losses, self.global_step, batch, origin, file))


def build_mixing(config: TrainConfig, num_classes: int) -> MixupCutmix | None:
    """Build what mixes the images of a batch; None for runs that mix none.

    Args:
        config: The run.
        num_classes: Number of classes K.
    """
    if config.task != "classification" or not config.data.mixes:
        return None
    return MixupCutmix(
        mixup=config.data.mixup,
        cutmix=config.data.cutmix,
        probability=config.data.mix_probability,
        num_classes=num_classes,
        label_smoothing=config.data.label_smoothing,
        seed=config.trainer.seed,
    )
