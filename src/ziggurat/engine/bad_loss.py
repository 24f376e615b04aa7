"""Numbers that are not finite: where in the model they begin, and the batch, kept for a look."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ziggurat.checkpoints.atomic import atomic_write
from ziggurat.engine.nonfinite import first_nonfinite
from ziggurat.errors import ZigguratError
from ziggurat.types import Batch
from ziggurat.zoo import Model


class NotFiniteError(ZigguratError):
    """A run has met a loss, weights or outputs that are no finite numbers."""


def describe_bad_loss(
    losses: Mapping[str, float], step: int, batch: Batch, origin: str, file: Path
) -> str:
    """Say in one sentence which term of the loss it was, for which images, and where it began.

    Args:
        losses: Terms of the loss.
        step: Optimizer steps done before.
        batch: Images of the step.
        origin: What `find_origin` says.
        file: Where the batch was kept.
    """
    bad = [f"{name} = {value}" for name, value in losses.items() if not math.isfinite(value)]
    images = ", ".join(f"{info.image_id} ({info.path})" for info in batch.infos[:8])
    more = ", ..." if len(batch.infos) > 8 else ""
    return (
        f"the loss is no finite number at step {step}: {', '.join(bad)} for images {images}{more}; "
        f"{origin}; the batch is kept in {file}"
    )


def find_origin(model: Model, batch: Batch) -> str:
    """Run the model once more and say where the first number that is not finite appears.

    Args:
        model: In the state, and with the random numbers, that the loss was computed with.
        batch: Images of the step.
    """
    if not batch.images.isfinite().all():
        return "the images themselves are not finite"
    # To its end even if the origin is found: other processes may wait for this one's part.
    with torch.no_grad(), first_nonfinite(model) as watch:
        model(batch.images, batch.image_sizes)
    if watch.found is None:
        return "all modules give finite numbers, so that the loss itself fails"
    return f"it begins {watch.found}"


def nonfinite_entry(model: Model) -> str | None:
    """Name the first entry of a model's weights that is not finite, or return None.

    Args:
        model: The model.
    """
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            return name
    return None


def save_batch(batch: Batch, step: int, file: Path) -> None:
    """Keep images and targets of a batch as safetensors, with the files they come from.

    Args:
        batch: The batch as the model saw it.
        step: Optimizer steps done before.
        file: Where to.
    """
    tensors = {"images": batch.images}
    targets = batch.targets
    if isinstance(targets, Tensor):
        tensors["targets"] = targets
    else:
        for number, target in enumerate(targets or ()):
            tensors |= _fields(target, f"targets.{number}")
    metadata = {
        "step": str(step),
        "image_sizes": json.dumps(batch.image_sizes),
        "images": json.dumps([dataclasses.asdict(info) for info in batch.infos]),
    }
    content = save({name: value.cpu().contiguous() for name, value in tensors.items()}, metadata)
    atomic_write(file, lambda opened: opened.write(content))


def _fields(target: Any, prefix: str) -> dict[str, Tensor]:  # noqa: ANN401  of any task
    found = {}
    for field in dataclasses.fields(target):
        value = getattr(target, field.name)
        if isinstance(value, Tensor):
            found[f"{prefix}.{field.name}"] = value
        elif dataclasses.is_dataclass(value):
            found |= _fields(value, f"{prefix}.{field.name}")
    return found
