"""How long a run takes, what limits it, and whether a step fits into memory."""

import os
import time
from dataclasses import dataclass

import torch

from ziggurat.config.data import ClassificationData
from ziggurat.config.tree import TrainConfig
from ziggurat.data.findings import plural
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.memory import OPTIMIZER_COPIES, step_memory
from ziggurat.doctor.plain import plain_batch, some_indices, training_side
from ziggurat.doctor.step import training_step
from ziggurat.doctor.subject import Subject
from ziggurat.engine.largest_batch import check_largest_batches
from ziggurat.ops.memory import available_bytes

CHECK = "speed and memory"
FIRST_SIDE = 128
"""Of the first images that are tried, in pixels; larger ones follow as time allows."""
LEAST_READ = 4
MOST_READ = 32
TIGHT, FULL = 0.8, 1.0
"""Shares of the free memory that a step takes."""
LONGEST_WAIT = 0.25
"""Reading limits the run where a step waits for images for more than this share of its time."""


@dataclass(frozen=True)
class _Measured:
    """A training step that was run.

    Attributes:
        images: Number of images.
        height: Height of the batch, padding included, in pixels.
        width: Its width.
        seconds: What it took.
        bytes: What it held at one time beyond the model and its gradients.
    """

    images: int
    height: int
    width: int
    seconds: float
    bytes: int

    @property
    def pixels(self) -> int:
        """Pixels of all images."""
        return self.images * self.height * self.width


def check_speed(subject: Subject, clock: Clock) -> list[Finding]:
    """Measure a training step as large as time allows, and how fast images are read.

    The errors of images too large for the memory are those that training would raise.
    """
    check_largest_batches(subject.model, subject.config, subject.data.divisor, subject.device)
    seconds_an_image = _reading(subject, clock.part(0.3))
    step, times = _compute(subject, clock)
    size = (
        "measured with the run's batch"
        if times == 1
        else f"scaled from {plural(step.images, 'image')} of {step.height} x {step.width} pixels"
    )
    return [
        _memory(subject, step.bytes * times, size),
        *_speed(subject, step.seconds * times, seconds_an_image, size),
    ]


def _reading(subject: Subject, clock: Clock) -> float:
    """Return the seconds that one process takes to read and augment an image."""
    images = subject.data.train
    begin = time.monotonic()
    count = 0
    for index in some_indices(subject, MOST_READ):
        images[0, index]
        count += 1
        if clock.left <= 0 and count >= LEAST_READ:
            break
    return (time.monotonic() - begin) / count


def _compute(subject: Subject, clock: Clock) -> tuple[_Measured, float]:
    """Return the largest step that was measured, and how many times as large one of the run is."""
    side, batch_size = training_side(subject), subject.config.data.batch_size
    small = min(side, FIRST_SIDE)
    # One image has no batch statistics; devices that put theirs together have, at one image each.
    is_synced = subject.config.trainer.sync_batch_norm and subject.world_size > 1
    fewest = 2 if is_synced else min(2, batch_size)
    _step(subject, fewest, small)  # warms up
    clock.require(f"{plural(fewest, 'image')} of {small} pixels tried")
    largest = first = _step(subject, fewest, small)
    times = 1.0
    free = available_bytes(subject.device)
    for count in dict.fromkeys((fewest, min(4, batch_size), batch_size)):
        pixels = first.pixels * count / fewest * (side / small) ** 2
        times = pixels / largest.pixels
        fits = free is None or largest.bytes * times < TIGHT * free / 2
        if times > 1 and fits and largest.seconds * times < clock.left / 2:
            largest = _step(subject, max(count, fewest), side)
            times = count / largest.images  # a small data set repeats images to fill a batch
    return largest, times


def _step(subject: Subject, count: int, side: int) -> _Measured:
    batch = plain_batch(subject, some_indices(subject, count), side)
    device = subject.device
    precision = subject.config.trainer.precision
    is_warm = device.type != "cpu"
    if is_warm:  # the first step of a size chooses its kernels, and takes memory for gradients
        training_step(subject, batch, precision)
    with step_memory(device, subject.model) as memory:
        begin = time.monotonic()
        training_step(subject, batch, precision, adds_up=is_warm)
        if is_warm:
            torch.accelerator.synchronize(device)
        seconds = time.monotonic() - begin
    subject.model.zero_grad(set_to_none=True)
    count, _, height, width = batch.images.shape
    return _Measured(count, height, width, seconds, memory.bytes)


def _memory(subject: Subject, activations: float, size: str) -> Finding:
    check = "memory"
    config = subject.config
    fixed = _fixed_bytes(subject)
    free = available_bytes(subject.device)
    evidence = f"a step takes about {_gigabytes(fixed + activations)} beside the model ({size})"
    if free is None:
        return Finding(check, "ok", f"{evidence}; this system does not say how much is free")
    evidence += f", {_gigabytes(float(free))} are free on {subject.device}"
    used = (fixed + activations) / free
    if used <= TIGHT:
        return Finding(check, "ok", evidence)
    room = max(0.0, TIGHT * free - fixed)
    batch = _largest_part(config, int(config.data.batch_size * room / max(activations, 1.0)))
    if batch is None:
        fix = "use smaller images or a smaller model; no smaller data.batch_size fits"
    else:
        times = config.data.batch_size // batch
        fix = (
            f"set data.batch_size {batch} and trainer.accumulate "
            f"{config.trainer.accumulate * times}, which keeps the images of a step"
        )
    return Finding(check, "error" if used > FULL else "warning", evidence, fix)


def _fixed_bytes(subject: Subject) -> float:
    """Return the bytes beside the model that a device keeps from step to step."""
    trainer, weights = subject.config.trainer, [*subject.model.parameters()]
    copies = OPTIMIZER_COPIES[subject.config.optimizer.kind] + 1  # and the gradients
    fixed = 4.0 * copies * sum(weight.numel() for weight in weights if weight.requires_grad)
    if trainer.ema_decay is not None:
        fixed += 4 * sum(weight.numel() for weight in weights)
    return fixed / subject.world_size if trainer.strategy == "fsdp" else fixed


def _largest_part(config: TrainConfig, most: int) -> int | None:
    """Return the largest batch size of which the run's is a multiple, or None if none fits.

    Args:
        config: The run; where its data mix pairs of images, a batch is even.
        most: Images that fit.
    """
    mixes = isinstance(config.data, ClassificationData) and config.data.mixes
    sizes = range(most, 0, -1)
    parts = (size for size in sizes if not (config.data.batch_size % size or mixes and size % 2))
    return next(parts, None)


def _speed(
    subject: Subject, step_seconds: float, seconds_an_image: float, size: str
) -> list[Finding]:
    config = subject.config
    batch, workers = config.data.batch_size, config.data.workers
    devices_here = max(1, subject.world_size // config.trainer.nodes)
    cores = max(1, (os.cpu_count() or 1) // devices_here)  # for each device
    computed = batch / step_seconds
    read = min(max(workers, 1), cores) / seconds_an_image
    times = (
        f"reads {read:.3g} images/s with {plural(workers, 'worker')} "
        f"({1000 * seconds_an_image:.0f} ms an image), computes {computed:.3g} ({size})"
    )
    # Without workers, reading and computing take turns.
    speed = min(read, computed) if workers > 0 else 1 / (1 / read + 1 / computed)
    waits = 1 - speed / computed
    findings = [_loading(config, times, waits, computed * seconds_an_image, cores)]
    images = len(subject.data.train)
    epoch = images / (speed * subject.world_size)
    steps = subject.schedule.total_steps
    whole = steps * subject.images_per_step / (speed * subject.world_size)
    evidence = (
        f"an epoch of {images} images takes about {_duration(epoch)}, the run of {steps} steps "
        f"{_duration(whole)}, validation not counted"
    )
    findings.append(Finding("duration", "ok", evidence))
    return findings


def _loading(config: TrainConfig, times: str, waits: float, needed: float, cores: int) -> Finding:
    check = "loading"
    evidence = f"{times}: a step waits for images for {waits:.0%} of its time"
    workers = config.data.workers
    wanted = max(1, round(needed * 1.3 + 0.5))
    if waits <= LONGEST_WAIT:
        return Finding(check, "ok", evidence)
    if workers >= cores or wanted > cores:
        fix = (
            f"save smaller images or augment less; {cores} cores read no faster"
            if workers >= cores
            else f"set data.workers {cores}, all cores, and save smaller images or augment less"
        )
    else:
        fix = f"set data.workers {wanted}"
    return Finding(check, "warning", evidence, fix)


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2g} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 172800 else f"{seconds / 86400:.1f} days"
