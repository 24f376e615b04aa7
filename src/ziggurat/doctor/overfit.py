"""Can the model learn ten images by heart? What cannot be learned so is not learned from more."""

import copy

import torch
from timm.layers.drop import DropPath
from torch import nn
from torch.optim import AdamW

from ziggurat.doctor.clock import Clock, OutOfTimeError
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.plain import plain_batch, some_indices, training_side
from ziggurat.doctor.step import training_step
from ziggurat.doctor.subject import Subject
from ziggurat.models.classifier import Classifier
from ziggurat.zoo import Model

CHECK = "ten images by heart"
NUM_IMAGES = 10
SIDES = {"classification": 96, "semantic_segmentation": 128}
"""Of the images on a CPU, in pixels."""
SIDE_OF_DETECTORS = 192
LR = 1e-3
WARM_UP_STEPS = 5
CLIP_NORM = 1.0
MOST_STEPS = 400
ENOUGH = 0.9
"""Share by which the loss has to fall."""
LEAST_STEPS = 40
FLAT = 0.2
"""A loss that fell by less after the least steps does not fall."""


def check_overfit(subject: Subject, clock: Clock) -> list[Finding]:
    """Train a copy of the model on ten images without augmentation until the loss is near 0."""
    side = training_side(subject)
    if subject.device.type == "cpu":
        side = min(side, SIDES.get(subject.config.task, SIDE_OF_DETECTORS))
    batch = plain_batch(subject, some_indices(subject, NUM_IMAGES), side)
    model = _without_randomness(subject.model)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AdamW(weights, lr=LR, weight_decay=0.0)
    losses: list[float] = []
    while len(losses) < MOST_STEPS:
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (len(losses) + 1) / WARM_UP_STEPS)
        loss = training_step(model, batch, subject.config.trainer, subject.device)
        losses.append(float(loss))
        nn.utils.clip_grad_norm_(weights, CLIP_NORM)
        optimizer.step()
        if not bool(torch.isfinite(loss)) or _fall(losses) >= ENOUGH or clock.left <= 0:
            break
    return [_judge(losses, len(batch.images), side)]


def _judge(losses: list[float], num_images: int, side: int) -> Finding:
    """Say what the losses of the steps mean.

    Raises:
        OutOfTimeError: If the loss was still on its way.
    """
    fall = _fall(losses)
    evidence = (
        f"the loss of {num_images} images of {side} pixels fell by {fall:.0%}, from "
        f"{losses[0]:.3g} to {losses[-1]:.3g} in {len(losses)} steps"
    )
    if fall >= ENOUGH:
        return Finding(CHECK, "ok", evidence)
    if not losses[-1] < float("inf") or (len(losses) >= LEAST_STEPS and fall < FLAT):
        return Finding(
            CHECK,
            "error",
            evidence,
            "look at these images with their annotations (`ziggurat data check DIR` draws some): "
            "they seem not to belong together",
        )
    if len(losses) < MOST_STEPS:
        raise OutOfTimeError(f"{evidence}, and was not done")
    return Finding(
        CHECK,
        "warning",
        evidence,
        "look at these images with their annotations: some may contradict each other",
    )


def _fall(losses: list[float]) -> float:
    """Share by which the loss has fallen, the last steps taken together."""
    last = losses[-3:]
    return 1 - sum(last) / len(last) / losses[0] if losses[0] > 0 else 1.0


def _without_randomness(model: Model) -> Model:
    """Copy a model, and turn off what makes learning by heart hard."""
    twin = copy.deepcopy(model).train()
    for module in twin.modules():
        if isinstance(module, DropPath | nn.Dropout | nn.Dropout2d):
            module.eval()
    if isinstance(twin, Classifier):
        twin.head.label_smoothing = 0.0
    return twin
