"""What the model sees: normalised values near 0, in the order red, green, blue."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from ziggurat.data.findings import some
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.plain import plain_batch, some_indices, training_side
from ziggurat.doctor.step import compute_losses
from ziggurat.doctor.subject import Subject
from ziggurat.losses.total import total_loss
from ziggurat.preprocessing import IMAGENET_PIXELS, CenterCrop, Preprocessing
from ziggurat.types import Batch

CHECK = "normalised input"
NUM_IMAGES = 16
LARGEST_SIDE = 224
FARTHEST_MEAN = 1.75
"""Photos are within 1 of the mean of ImageNet; black is at -2.1, white at 2.6."""
STDS = (0.25, 2.0)
"""Photos have a standard deviation of about 1."""
LEAST_STD = 0.08
"""Below this images are all but empty."""
SWAP_GAIN = 0.8
"""If the loss falls to this share with red and blue exchanged, they were exchanged before."""


def check_colours(subject: Subject, clock: Clock) -> list[Finding]:
    """Measure mean and deviation of normalised images, and try red and blue exchanged."""
    side = min(training_side(subject), LARGEST_SIDE)
    batches = []
    for index in some_indices(subject, NUM_IMAGES):
        batches.append(plain_batch(subject, [index], side))
        clock.require(f"{len(batches)} images read")
    return [
        _statistics(batches, subject.data.preprocessing),
        *_channel_order(subject, batches, clock),
    ]


def _statistics(batches: list[Batch], preprocessing: Preprocessing) -> Finding:
    pixels = as_imagenet(torch.cat([_valid(batch) for batch in batches], dim=1), preprocessing)
    mean, std = pixels.mean(dim=1), pixels.std(dim=1)
    evidence = (
        f"{len(batches)} images have the means {_numbers(mean)} and deviations {_numbers(std)} of "
        "red, green, blue"
    )
    if float(std.max()) < LEAST_STD:
        return Finding(
            CHECK,
            "error",
            f"{evidence}: they are all but empty",
            "save images with values from 0 to 255; these look like 0 to 1, or 16 bits cut to 8",
        )
    is_far = float(mean.abs().max()) > FARTHEST_MEAN
    if is_far or float(std.max()) < STDS[0] or float(std.max()) > STDS[1]:
        return Finding(
            CHECK,
            "warning",
            f"{evidence}; photos have about 0 and 1",
            "look at the images (`ziggurat data check DIR` draws some) and stretch their values "
            "to 0 to 255 if they are too dark or flat",
        )
    return Finding(CHECK, "ok", evidence)


def _channel_order(subject: Subject, batches: list[Batch], clock: Clock) -> list[Finding]:
    """Ask weights that know these classes which order of the channels they like better."""
    check = "channel order"
    weights = subject.config.model.weights
    if weights is None or subject.config.model.reset_classes:
        return []
    description = subject.description
    if description is not None and set(description.classes) != set(subject.data.classes):
        return []
    subject = replace(subject, distillation=None)  # a teacher may like another order
    before = after = 0.0
    for number, batch in enumerate(batches):
        clock.require(f"{number} images tried with red and blue exchanged")
        before += _loss(subject, batch) / len(batches)
        after += _loss(subject, replace(batch, images=batch.images.flip(1))) / len(batches)
    evidence = f"the loss of {weights} is {before:.3g}, and {after:.3g} with red and blue exchanged"
    if not math.isfinite(before) or not math.isfinite(after):
        fix = "save or download the weights again; a loss that is no number says nothing of colours"
        return [Finding(check, "error", evidence, fix)]
    if after > SWAP_GAIN * before:
        return [Finding(check, "ok", evidence)]
    return [
        Finding(
            check,
            "error",
            evidence,
            "save the images as RGB (they look as if they were written as BGR), or start from "
            "weights that were trained on such images",
        )
    ]


@torch.no_grad()
def _loss(subject: Subject, batch: Batch) -> float:
    subject.model.eval()
    losses = compute_losses(subject, batch, "32")
    subject.train()
    return float(total_loss(losses))


def as_imagenet(values: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return normalised pixels (3, N) as red, green, blue by the mean and deviation of ImageNet.

    Some weights want values from -123 to 152; by one scale the same limits hold for all.

    Args:
        values: What the model sees.
        preprocessing: How it was made.
    """
    # A classifier's channels are always in RGB.
    is_bgr = not isinstance(preprocessing, CenterCrop) and preprocessing.channel_order == "bgr"
    rgb = values.flip(0) if is_bgr else values
    own, usual = (
        (torch.tensor(pixels.mean)[:, None], torch.tensor(pixels.std)[:, None])
        for pixels in (preprocessing, IMAGENET_PIXELS)
    )
    return (rgb * own[1] + own[0] - usual[0]) / usual[1]


def _valid(batch: Batch) -> Tensor:
    """Return the pixels of a batch of one image without its padding, channels first."""
    (height, width), *_ = batch.image_sizes
    return batch.images[0, :, :height, :width].flatten(1)


def _numbers(values: Tensor) -> str:
    return some([f"{value:.2f}" for value in values.tolist()])
