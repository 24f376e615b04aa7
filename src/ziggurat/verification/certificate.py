"""A certificate of a weight file: what it is, what became of it, and what it gives.

It says which entries were loaded, whether the hash is the published one, what the model gives on a
fixed input, and how good it is on data, with the published number beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ziggurat import zoo
from ziggurat.cards import MODELS
from ziggurat.checkpoints.matching import LoadReport
from ziggurat.checkpoints.native import is_native, load_weights
from ziggurat.checkpoints.official import load_official, load_official_backbone
from ziggurat.checkpoints.read import read_checkpoint
from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation import Progress, evaluate
from ziggurat.inference.evaluation_result import Evaluation
from ziggurat.inference.forward import choose_device
from ziggurat.ops.tensors import tensors_in
from ziggurat.preprocessing import CenterCrop
from ziggurat.types import BadFile, ImageSize
from ziggurat.verification.golden import golden_error, golden_images, golden_values, is_golden
from ziggurat.weights.catalogue import FILES, files_for
from ziggurat.weights.fetch import sha256_of
from ziggurat.weights.published_file import PublishedFile
from ziggurat.zoo import Backbone, Model

FIXED_SIZE: ImageSize = (224, 224)
FIRST_VALUES = 4

VALIDATION_IMAGES = {"top1": 50_000, "AP": 5_000, "mIoU": 2_000}
"""Images of ImageNet-1k val, COCO val2017 and ADE20K val: only there numbers can be compared."""

METRIC_TOLERANCE = 0.2
"""Percentage points: half of the last published digit, and what decoders and resizing differ."""


@dataclass(frozen=True)
class Fingerprint:
    """Output on the fixed input: the same numbers everywhere, up to rounding.

    Attributes:
        mean: Mean of all values.
        std: Their standard deviation.
        first: The first few of them.
    """

    mean: float
    std: float
    first: tuple[float, ...]


@dataclass(frozen=True)
class GoldenCheck:
    """A golden file, and how far the outputs are from those of the official code.

    Attributes:
        case: Name of the golden case.
        error: Relative distance |ours - official| / |official|.
        tolerance: Largest distance that is one of rounding.
    """

    case: str
    error: float
    tolerance: float

    @property
    def fits(self) -> bool:
        """Whether the distance is one of rounding."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Measurement:
    """How good the model is on data.

    Attributes:
        data: What it was measured on.
        num_images: How many images there were.
        numbers: Metric and measured value, in percent; first the one that decides.
        published: Metric and published value, in percent, of the published file that was measured,
            as it was measured there; empty where the file is none of those, or has no number.
        others: Files with published numbers, of the same model, where `published` is empty.
    """

    data: str
    num_images: int
    numbers: dict[str, float]
    published: dict[str, float]
    others: tuple[PublishedFile, ...] = ()

    @property
    def is_comparable(self) -> bool:
        """Whether there are published numbers, of as many images as the data have."""
        return any(self.num_images == VALIDATION_IMAGES.get(name) for name in self.published)

    @property
    def fits(self) -> bool:
        """Whether all numbers are the published ones, as far as they can be compared."""
        return not self.is_comparable or all(
            abs(self.numbers[name] - value) <= METRIC_TOLERANCE
            for name, value in self.published.items()
        )


@dataclass(frozen=True)
class Certificate:
    """All that was found out about a weight file; `faults` is empty if it is what it claims.

    Attributes:
        model: Name of the model or of the backbone.
        file: The file.
        size: Its size in bytes.
        sha256: Its hash.
        catalogue: The published file that it is or claims to be, or None.
        report: What became of its entries.
        fingerprint: Output on the fixed input.
        is_golden: Whether it is a golden file.
        golden: Comparison with the official code, where values of it are kept for a golden file.
        measured: Comparison with the published accuracy, where data were given.
    """

    model: str
    file: Path
    size: int
    sha256: str
    catalogue: PublishedFile | None
    report: LoadReport
    fingerprint: Fingerprint
    is_golden: bool
    golden: GoldenCheck | None
    measured: Measurement | None

    @property
    def has_published_hash(self) -> bool | None:
        """Whether the hash is the published one; None where none is published."""
        if self.catalogue is None or self.catalogue.sha256_prefix is None:
            return None
        return self.sha256.startswith(self.catalogue.sha256_prefix)

    @property
    def faults(self) -> list[str]:
        """What does not fit, in words."""
        faults = []
        if self.has_published_hash is False:
            faults.append("its hash is not the published one")
        if self.golden is not None and not self.golden.fits:
            faults.append(
                f"its outputs differ from the official ones by {self.golden.error:.1e}, at most "
                f"{self.golden.tolerance:.0e} is rounding"
            )
        if self.measured is not None and not self.measured.fits:
            faults.append(f"its accuracy is not within {METRIC_TOLERANCE} points of the published")
        return faults


def certify(
    name: str,
    file: Path,
    *,
    num_classes: int | None = None,
    use_ema: bool = False,
    data_root: Path | None = None,
    split: str = "val",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int = 0,
    on_progress: Progress | None = None,
    on_bad_file: Callable[[BadFile], None] | None = None,
) -> Certificate:
    """Load a file into a fresh model and find out whether it is what it claims to be.

    A file that does not fit the model is a `ZigguratError`, as everywhere.

    Args:
        name: Name of the model, or of a backbone.
        file: Official file, or one of ziggurat.
        num_classes: Number of classes of an official file, by default as published.
        use_ema: Take the weights that were averaged over the training.
        data_root: Folder of ImageNet, COCO or ADE20K, to measure the accuracy.
        split: Split to measure it on.
        device: Where to measure it: "auto", "cpu", "cuda", "cuda:1", "mps".
        batch_size: Images that go through the model together there; None as `evaluate` has it.
        workers: Processes that read images there; 0 reads in this one.
        on_progress: Is told of every batch of the measurement.
        on_bad_file: Is told of every image that cannot be decoded.
    """
    choose_device(device)  # else it is missed only after all that needs none
    is_own = is_native(file)
    if is_own:
        model, report = _open_native(name, file, num_classes, use_ema)
    else:
        model, report = _open_official(name, file, num_classes, use_ema)
    sha256 = sha256_of(file)
    catalogue = _find(name, file, sha256)
    fingerprint = _fingerprint(model)
    is_golden_file = False
    golden: GoldenCheck | None = None
    measured: Measurement | None = None
    if not is_own:
        weights = read_checkpoint(file, use_ema=use_ema)
        is_golden_file = is_golden(weights)
        values = golden_values(name, weights) if is_golden_file else None
        if values is not None:
            golden = GoldenCheck(values.case, golden_error(model, values), values.tolerance)
    if data_root is not None:
        # A file of ziggurat says itself how it wants to see images.
        published = None if is_own else catalogue
        measured = _measure(
            model,
            published,
            partial(
                evaluate,
                data_root=data_root,
                split=split,
                batch_size=batch_size,
                workers=workers,
                device=device,
                on_progress=on_progress,
                on_bad_file=on_bad_file,
            ),
        )
    return Certificate(
        model=name,
        file=file,
        size=file.stat().st_size,
        sha256=sha256,
        catalogue=catalogue,
        report=report,
        fingerprint=fingerprint,
        is_golden=is_golden_file,
        golden=golden,
        measured=measured,
    )


def _open_official(
    name: str, file: Path, num_classes: int | None, use_ema: bool
) -> tuple[Model | Backbone, LoadReport]:
    if not _is_backbone(name):
        model = zoo.create_model(name, num_classes=num_classes).eval()
        return model, load_official(model, file, use_ema=use_ema)
    if num_classes is not None:
        raise ZigguratError(
            f"{name} is a backbone, which has no classes, got {num_classes} of them; leave "
            "--num_classes out"
        )
    backbone = zoo.create_backbone(name).eval()
    return backbone, load_official_backbone(backbone, name, file, use_ema=use_ema)


def _open_native(
    name: str, file: Path, num_classes: int | None, use_ema: bool
) -> tuple[Model | Backbone, LoadReport]:
    """Build the model that a file of ziggurat describes, with its own classes and preprocessing.

    Raises:
        ZigguratError: If it is another model, or something is asked for that the file says itself.
    """
    if use_ema:
        raise ZigguratError(f"{file} is of ziggurat and holds weights once; leave --ema out")
    if num_classes is not None:
        raise ZigguratError(
            f"{file} is of ziggurat and says itself how many classes it has; leave --num_classes "
            "out"
        )
    if _is_backbone(name):
        raise ZigguratError(
            f"{file} holds a whole model of ziggurat, expected the official file of a backbone; "
            "name its model instead of the backbone"
        )
    with torch.device("meta"):
        expected = zoo.create_model(name).identity.name
    model = load_weights(file)
    if model.identity.name != expected:
        raise ZigguratError(
            f"{file} holds {model.identity.name}, expected {expected}; name the model that it holds"
        )
    # It loads strictly, each entry under its own name.
    return model, LoadReport(matched=tuple((entry, entry) for entry in model.state_dict()))


def _is_backbone(name: str) -> bool:
    return name in zoo.BACKBONES and name not in MODELS


def _find(name: str, file: Path, sha256: str) -> PublishedFile | None:
    """Find the published file that a file is, by its hash, or claims to be, by its name."""
    own = files_for(name)
    for candidate in own:
        if candidate.sha256_prefix and sha256.startswith(candidate.sha256_prefix):
            return candidate
    named = FILES.get(file.name)
    return named if named in own else None


def _fingerprint(model: Model | Backbone) -> Fingerprint:
    with torch.inference_mode():
        raw = model(golden_images((1, 3, *FIXED_SIZE)))
    values = torch.cat([part.reshape(-1).double() for part in tensors_in(raw)])
    first = tuple(float(value) for value in values[:FIRST_VALUES])
    return Fingerprint(float(values.mean()), float(values.std()), first)


def _measure(
    model: Model | Backbone,
    published: PublishedFile | None,
    evaluate_on_data: Callable[[Model], Evaluation],
) -> Measurement:
    """Evaluate the model as `ziggurat evaluate` does, on images of the size of the published file.

    Raises:
        ZigguratError: If it is a backbone, which has no accuracy.
    """
    if not isinstance(model, Model):
        raise ZigguratError(
            "a backbone has no accuracy to measure; leave --data out, or name a whole model"
        )
    if published is not None and published.limits is not None:
        usual = model.preprocessing
        assert not isinstance(usual, CenterCrop)  # no file of a classifier has limits
        short_side, long_side = published.limits
        model.preprocessing = replace(usual, short_side=short_side, long_side=long_side)
    evaluation = evaluate_on_data(model)
    report = evaluation.report
    metrics = {} if published is None else dict(published.metrics)
    stated = tuple(file for file in files_for(model.identity.name) if file.metrics)
    return Measurement(
        data=evaluation.data,
        num_images=report.num_images,
        numbers={
            name: 100 * value
            for name, value in {report.primary: report.value, **report.numbers}.items()
        },
        published=metrics,
        others=() if metrics else stated,
    )
