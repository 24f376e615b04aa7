"""Can the model learn ten images by heart? What cannot be learned so is not learned from more."""

import copy
import time

from timm.layers.drop import DropPath
from torch import nn
from torch.optim import AdamW

from ziggurat.data.findings import plural
from ziggurat.doctor.clock import Clock, OutOfTimeError
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.plain import plain_batch, some_indices, training_side
from ziggurat.doctor.step import training_step
from ziggurat.doctor.subject import Subject
from ziggurat.models.classifier import Classifier
from ziggurat.zoo import Model

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
"""Share by which the loss has to fall."""
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
    model = _without_randomness(subject.model)
    begin = time.monotonic()
    pair = plain_batch(subject, some_indices(subject, 2), side)  # one has no batch statistics
    training_step(model, pair, "32", subject.device)
    step = NUM_IMAGES / 2 * (time.monotonic() - begin)
    if step * FEW_STEPS > clock.left:
        raise OutOfTimeError(f"a step of {NUM_IMAGES} images of {side} pixels takes {step:.0f} s")
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AdamW(weights, lr=LR, weight_decay=0.0)
    losses: list[float] = []
    while len(losses) < MOST_STEPS:
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (len(losses) + 1) / WARM_UP_STEPS)
        loss = training_step(model, batch, "32", subject.device)
        losses.append(float(loss))
        nn.utils.clip_grad_norm_(weights, CLIP_NORM)
        optimizer.step()
        if _is_decided(losses) or clock.left <= 0:
            break
    return [_judge(losses, len(batch.images), side)]


def _judge(losses: list[float], num_images: int, side: int) -> Finding:
    """Say what the losses of the steps mean.

    Raises:
        OutOfTimeError: If the loss was still on its way.
    """
    fall = _fall(losses)
    change = f"fell by {fall:.0%}" if fall > 0 else "did not fall"
    evidence = (
        f"the loss of {num_images} images of {side} pixels {change}, from {losses[0]:.3g} to "
        f"{_last(losses):.3g} in {plural(len(losses), 'step')}"
    )
    if fall >= ENOUGH:
        return Finding(CHECK, "ok", evidence)
    if _is_decided(losses):
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


def _is_decided(losses: list[float]) -> bool:
    is_flat = len(losses) >= LEAST_STEPS and _fall(losses) < FLAT
    return is_flat or not losses[-1] < float("inf") or _fall(losses) >= ENOUGH


def _fall(losses: list[float]) -> float:
    """Share by which the loss has fallen."""
    return 1 - _last(losses) / losses[0] if losses[0] > 0 else 1.0


def _last(losses: list[float]) -> float:
    """Mean of the last steps, between which losses jump."""
    last = losses[-3:]
    return sum(last) / len(last)


def _without_randomness(model: Model) -> Model:
    """Copy a model, and turn off what makes learning by heart hard."""
    twin = copy.deepcopy(model).train()
    for module in twin.modules():
        if isinstance(module, DropPath | nn.Dropout | nn.Dropout2d):
            module.eval()
    if isinstance(twin, Classifier):
        twin.head.label_smoothing = 0.0
    return twin
