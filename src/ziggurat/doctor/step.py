"""One training step: images to a loss and its gradients, in the precision of a run."""

import torch
from torch import Tensor

from ziggurat.doctor.subject import Subject
from ziggurat.engine.data import batch_to
from ziggurat.engine.precision import products_in
from ziggurat.engine.single_values import explain_single_values
from ziggurat.losses.total import total_loss
from ziggurat.types import Batch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def compute_losses(subject: Subject, batch: Batch, precision: str) -> dict[str, Tensor]:
    """Return the named losses of a batch.

    Args:
        subject: The run; its model may be another one.
        batch: Images and targets.
        precision: As `trainer.precision`.
    """
    model, device = subject.model, subject.device
    moved = batch_to(batch, device)
    dtype = DTYPES.get(precision)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        with explain_single_values(model, len(moved.images)):
            raw = model(moved.images, moved.image_sizes)
        # Each model has its kind of targets.
        losses = model.loss(raw, moved.targets, moved.image_sizes)  # type: ignore[arg-type]
        if subject.distillation is None:
            return losses
        return subject.distillation(moved.images, raw, losses)


def training_step(
    subject: Subject, batch: Batch, precision: str, *, adds_up: bool = False
) -> Tensor:
    """Compute the gradients of a batch and return its loss.

    Args:
        subject: The run; its model may be another one.
        batch: Images and targets.
        precision: As `trainer.precision`.
        adds_up: Whether the gradients are added to those of before, which are dropped otherwise.
    """
    if not adds_up:
        subject.model.zero_grad(set_to_none=True)
    with products_in(precision):
        loss = total_loss(compute_losses(subject, batch, precision))
        loss.backward()
    return loss.detach()
