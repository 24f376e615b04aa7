"""One training step: images to a loss and its gradients, in the precision of a run."""

import torch
from torch import Tensor

from ziggurat.engine.data import batch_to
from ziggurat.engine.precision import products_in
from ziggurat.losses.total import total_loss
from ziggurat.types import Batch
from ziggurat.zoo import Model

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def compute_losses(
    model: Model, batch: Batch, precision: str, device: torch.device
) -> dict[str, Tensor]:
    """Return the named losses of a batch.

    Args:
        model: The model on the device.
        batch: Images and targets.
        precision: As `trainer.precision`.
        device: Where to compute.
    """
    moved = batch_to(batch, device)
    dtype = DTYPES.get(precision)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        raw = model(moved.images, moved.image_sizes)
        # Each model has its kind of targets.
        return model.loss(raw, moved.targets, moved.image_sizes)  # type: ignore[arg-type]


def training_step(
    model: Model, batch: Batch, precision: str, device: torch.device, *, adds_up: bool = False
) -> Tensor:
    """Compute the gradients of a batch and return its loss.

    Args:
        model: The model on the device.
        batch: Images and targets.
        precision: As `trainer.precision`.
        device: Where to compute.
        adds_up: Whether the gradients are added to those of before, which are dropped otherwise.
    """
    if not adds_up:
        model.zero_grad(set_to_none=True)
    with products_in(precision):
        loss = total_loss(compute_losses(model, batch, precision, device))
        loss.backward()
    return loss.detach()
