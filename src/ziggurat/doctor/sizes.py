"""Image sizes: how much of a batch is padding, and whether images are enlarged or too small."""

from collections.abc import Sequence
from statistics import median

import numpy as np

from ziggurat.config.data import ClassificationData, DetectionData, SegmentationData
from ziggurat.data.coco import CocoDetection
from ziggurat.data.decode import ImageDecodeError, decode_with, upright_size
from ziggurat.data.findings import evenly
from ziggurat.data.labelled_images import LabelledImages
from ziggurat.data.resize import fit_size
from ziggurat.data.sampling import SeededBatchSampler
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.plain import Images, image_paths
from ziggurat.doctor.subject import Subject
from ziggurat.ops.padding import aligned_size
from ziggurat.types import ImageSize

CHECK = "image sizes"
MOST_FILES = 300
MOST_BATCHES = 500
LARGEST_FACTOR = 2.0
"""Photos enlarged by more cost four times the time for no more detail."""
MOST_PADDING = 0.4
"""Share of a batch; COCO at its published sizes has about a tenth."""


def check_sizes(subject: Subject, clock: Clock) -> list[Finding]:
    """Hold the sizes of the files against those that the model sees."""
    data = subject.config.data
    sizes = _sizes(subject, clock)
    if not sizes:  # the check of the data names every file
        return []
    sides = [min(size) for size in sizes]
    short = (
        f"short sides of the files {min(sides)} to {max(sides)} pixels, median {median(sides):g}"
    )
    if isinstance(data, ClassificationData):
        # A random crop takes a part of the image, of which half the area is usual.
        factor = data.image_size / median(sides)
        evidence = f"{short}; the model sees squares of {data.image_size}"
        return [_enlargement(factor, evidence, "data.image_size")]
    if isinstance(data, SegmentationData):
        return _segmentation(data, sizes, short)
    return _detection(subject, data, sizes, short)


def _sizes(subject: Subject, clock: Clock) -> list[ImageSize]:
    """Return height and width of some training images."""
    images = subject.data.train
    if isinstance(images, CocoDetection):
        return images.sizes
    paths = image_paths(images)
    sizes = []
    for number, index in enumerate(evenly(len(images), MOST_FILES)):
        clock.require(f"{number} files looked at")
        try:
            source = _bytes(images, index) if paths is None else paths[index]
            sizes.append(decode_with(source, upright_size))
        except ImageDecodeError:
            continue  # the check of the data names it
    return sizes


def _bytes(images: Images, index: int) -> bytes:
    assert isinstance(images, LabelledImages)  # no others are packed
    return images.storage.read(index)


def _enlargement(factor: float, evidence: str, field: str) -> Finding:
    if factor <= LARGEST_FACTOR:
        return Finding(CHECK, "ok", evidence)
    return Finding(
        CHECK,
        "warning",
        f"{evidence}: enlarged {factor:.1f} times, which costs {factor**2:.0f} times the time and "
        "shows no more",
        f"lower {field}, or use larger images",
    )


def _segmentation(data: SegmentationData, sizes: Sequence[ImageSize], short: str) -> list[Finding]:
    resized = [fit_size(size, data.short_side, data.long_side) for size in sizes]
    factor = median(new[0] / old[0] for new, old in zip(resized, sizes, strict=True))
    evidence = f"{short}, after resizing {median(min(size) for size in resized):g}"
    findings = [_enlargement(factor, evidence, "data.short_side")]
    filled = [_filled(size, data.crop, data.scale) for size in resized]
    padding = 1 - float(np.mean(filled))
    evidence = (
        f"{padding:.0%} of a crop of {data.crop[0]} x {data.crop[1]} is padding in the mean, of "
        f"images resized by {data.scale[0]:g} to {data.scale[1]:g}"
    )
    if padding <= MOST_PADDING:
        return [*findings, Finding("padding", "ok", evidence)]
    side = round(median(min(size) for size in resized) / 32) * 32
    return [
        *findings,
        Finding(
            "padding",
            "warning",
            evidence,
            f"lower data.crop to about {side} x {side}, or raise data.short_side",
        ),
    ]


def _filled(size: ImageSize, crop: ImageSize, scale: tuple[float, float]) -> float:
    """Share of a crop that the image fills, in the mean over the factors of its size."""
    factors = np.linspace(*scale, 9)
    height = np.minimum(size[0] * factors, crop[0]) / crop[0]
    width = np.minimum(size[1] * factors, crop[1]) / crop[1]
    return float((height * width).mean())


def _detection(
    subject: Subject, data: DetectionData, sizes: Sequence[ImageSize], short: str
) -> list[Finding]:
    if data.scale_jitter is not None:  # every size comes, and padding is part of the method
        return [Finding(CHECK, "ok", f"{short}; large-scale jitter chooses the sizes")]
    side = data.short_side if data.train_short_sides is None else max(data.train_short_sides)
    resized = [fit_size(size, side, data.long_side) for size in sizes]
    factor = median(new[0] / old[0] for new, old in zip(resized, sizes, strict=True))
    evidence = f"{short}, after resizing {median(min(size) for size in resized):g}"
    findings = [_enlargement(factor, evidence, "data.short_side and data.long_side")]
    padding = _padding(subject.batches, resized, subject.data.divisor)
    evidence = f"{padding:.0%} of a batch of {data.batch_size} is padding in the mean"
    if padding <= MOST_PADDING:
        return [*findings, Finding("padding", "ok", evidence)]
    return [
        *findings,
        Finding(
            "padding",
            "warning",
            evidence,
            "lower data.batch_size and raise trainer.accumulate: images of a batch differ too "
            "much in shape",
        ),
    ]


def _padding(batches: SeededBatchSampler, sizes: Sequence[ImageSize], divisor: int) -> float:
    shares = []
    for _, batch in zip(range(MOST_BATCHES), batches, strict=False):
        own = [sizes[index] for _, index in batch]
        height, width = aligned_size((max(h for h, _ in own), max(w for _, w in own)), divisor)
        shares.append(1 - sum(h * w for h, w in own) / (len(own) * height * width))
    return float(np.mean(shares))
