"""Can the model learn ten images by heart? What cannot be learned so is not learned from more."""

import copy
import time
from dataclasses import replace

import torch
from timm.layers.drop import DropPath
from torch import nn
from torch.optim import AdamW

from ziggurat.data.findings import plural
from ziggurat.doctor.clock import Clock, OutOfTimeError
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.plain import plain_batch, some_indices, training_side
from ziggurat.doctor.step import compute_losses, training_step
from ziggurat.doctor.subject import Subject
from ziggurat.losses.total import total_loss
from ziggurat.models.classifier import Classifier
from ziggurat.types import Batch

CHECK = "ten images by heart"
NUM_IMAGES = 10
SIDE_ON_CPU, SIDE_OF_CLASSIFIERS = 128, 96
SIDE_ELSEWHERE = 320
"""Of the images at most, in pixels: ten whole ones may not fit where a batch of two does."""
LR = 5e-4
WARM_UP_STEPS = 10
CLIP_NORM = 1.0
MOST_STEPS = 400
ENOUGH = 0.9
"""Share by which the loss has to fall from its beginning, or from that of a model without weights.

Weights that know these images already begin near 0, from where no loss falls much.
"""
LEAST_STEPS = 60
FEW_STEPS = 10
"""Fewer are not begun with."""
FLAT = 0.2
"""A loss that fell by less after the least steps does not fall."""


def check_overfit(subject: Subject, clock: Clock) -> list[Finding]:
    """Train a copy of the model on ten images without augmentation until the loss is near 0.

    Raises:
        OutOfTimeError: If the time is not enough for a few steps, or was not for the others.
    """
    largest = SIDE_ELSEWHERE
    if subject.device.type == "cpu":
        is_classifier = subject.config.task == "classification"
        largest = SIDE_OF_CLASSIFIERS if is_classifier else SIDE_ON_CPU
    side = min(training_side(subject), largest)
    batch = plain_batch(subject, some_indices(subject, NUM_IMAGES), side)
    twin = _without_randomness(subject)
    begin = time.monotonic()
    pair = plain_batch(subject, some_indices(subject, 2), side)  # one has no batch statistics
    training_step(twin, pair, "32")
    step = NUM_IMAGES / 2 * (time.monotonic() - begin)
    if step * FEW_STEPS > clock.left:
        raise OutOfTimeError(f"a step of {NUM_IMAGES} images of {side} pixels takes {step:.0f} s")
    unlearned = _loss_without_weights(subject, batch)
    weights = [parameter for parameter in twin.model.parameters() if parameter.requires_grad]
    optimizer = AdamW(weights, lr=LR, weight_decay=0.0)
    losses: list[float] = []
    while len(losses) < MOST_STEPS:
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (len(losses) + 1) / WARM_UP_STEPS)
        losses.append(float(training_step(twin, batch, "32")))
        nn.utils.clip_grad_norm_(weights, CLIP_NORM)
        optimizer.step()
        if _is_decided(losses, unlearned) or clock.left <= 0:
            break
    return [_judge(losses, unlearned, len(batch.images), side)]


def _judge(losses: list[float], unlearned: float, num_images: int, side: int) -> Finding:
    """Say what the losses of the steps mean.

    Args:
        losses: Those of all steps.
        unlearned: That of a model without weights, or 0.
        num_images: Number of images.
        side: Of the images, in pixels.

    Raises:
        OutOfTimeError: If the loss was still on its way.
    """
    fall = _fall(losses, unlearned)
    change = f"fell by {fall:.0%}" if fall > 0 else "did not fall"
    begin = f"from {losses[0]:.3g}"
    if unlearned > losses[0]:
        begin = f"from {unlearned:.3g} without weights, {losses[0]:.3g} with them,"
    evidence = (
        f"the loss of {num_images} images of {side} pixels {change}, {begin} to "
        f"{_last(losses):.3g} in {plural(len(losses), 'step')}"
    )
    if fall >= ENOUGH:
        return Finding(CHECK, "ok", evidence)
    if _is_decided(losses, unlearned):
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


def _is_decided(losses: list[float], unlearned: float) -> bool:
    fall = _fall(losses, unlearned)
    is_flat = len(losses) >= LEAST_STEPS and fall < FLAT
    return is_flat or not losses[-1] < float("inf") or fall >= ENOUGH


def _fall(losses: list[float], unlearned: float) -> float:
    """Share by which the loss has fallen."""
    begin = max(losses[0], unlearned)
    return 1 - _last(losses) / begin if begin > 0 else 1.0


def _last(losses: list[float]) -> float:
    """Mean of the last steps, between which losses jump."""
    last = losses[-3:]
    return sum(last) / len(last)


@torch.no_grad()
def _loss_without_weights(subject: Subject, batch: Batch) -> float:
    """Return the loss of a model that has learned nothing, or 0 where the run is one of these."""
    if subject.fresh is None:
        return 0.0
    fresh = _without_randomness(replace(subject, model=subject.fresh, frozen=()))
    return float(total_loss(compute_losses(fresh, batch, "32")))


def _without_randomness(subject: Subject) -> Subject:
    """Copy the model of a run, and turn off what makes learning by heart hard."""
    model, frozen = copy.deepcopy((subject.model, subject.frozen))
    twin = replace(subject, model=model, frozen=frozen, distillation=None)
    twin.train()
    for module in model.modules():
        if isinstance(module, DropPath | nn.Dropout | nn.Dropout2d):
            module.eval()
    if isinstance(model, Classifier):
        model.head.label_smoothing = 0.0
    return twin
