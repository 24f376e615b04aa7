"""Were the weights that a run starts from really loaded, and were they ever trained?"""

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.doctor.clock import Clock
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.plain import plain_batch, some_indices, training_side
from ziggurat.doctor.subject import Subject
from ziggurat.zoo import Model

CHECK = "pretrained weights"
LEAST_FILLED = 0.9
"""Share of a backbone's entries that a file fills at least, of those that it is meant to fill."""
LEAST_MOVED = 0.1
"""Training moves nearly all biases and scales away from the constants they start at."""
NUM_IMAGES = 4
LARGEST_SIDE = 224


def check_weights(subject: Subject, clock: Clock) -> list[Finding]:
    """Compare the model with the same model without weights, entry by entry and by its features."""
    if subject.fresh is None:
        return [_without_weights(subject)]
    clock.require("no entry was compared")
    loaded, initial = subject.model.state_dict(), subject.fresh.state_dict()
    filled: dict[str, list[bool]] = defaultdict(list)
    moved = []
    for name, value in loaded.items():
        if name in subject.absent or not value.is_floating_point():
            continue
        is_filled = not torch.equal(value, initial[name])
        filled[name.partition(".")[0]].append(is_filled)
        if name.startswith("backbone.") and _is_constant(initial[name]):
            moved.append(is_filled)
    counts = ", ".join(
        f"{part} {sum(entries)} of {len(entries)}" for part, entries in filled.items()
    )
    file = subject.config.model.weights or subject.config.model.backbone_weights
    evidence = f"entries filled from {file}: {counts}"
    share = sum(filled["backbone"]) / len(filled["backbone"])
    if moved and sum(moved) / len(moved) < LEAST_MOVED:
        return [
            Finding(
                CHECK,
                "error",
                f"{file} was never trained: {len(moved) - sum(moved)} of {len(moved)} biases and "
                "scales of the backbone are the constants that a new model begins with",
                "give the file of a finished training run or the published one (`ziggurat list` "
                "says where it is)",
            )
        ]
    if share < LEAST_FILLED:
        return [Finding(CHECK, "error", evidence, "give weights of a model with the same backbone")]
    return [_compare_features(subject, subject.fresh, evidence)]


def _without_weights(subject: Subject) -> Finding:
    if subject.published_weights is not None:
        return Finding(
            CHECK,
            "error",
            f"none are given, and the published run of {subject.recipe} starts from ImageNet "
            "weights",
            f"give {subject.published_weights} as model.backbone_weights (`ziggurat list "
            "--weights` says where it is), or use a *_from_scratch recipe, which is made for "
            "starting anew",
        )
    if subject.recipe is None and subject.config.task != "classification":
        return Finding(
            CHECK,
            "warning",
            "none are given; detectors and segmenters that start anew need several times as many "
            "epochs",
            "give an ImageNet file of the backbone as model.backbone_weights",
        )
    return Finding(CHECK, "ok", f"none are given, as in {subject.recipe or 'training anew'}")


def _compare_features(subject: Subject, fresh: Model, evidence: str) -> Finding:
    side = min(training_side(subject), LARGEST_SIDE)
    batch = plain_batch(subject, some_indices(subject, NUM_IMAGES), side)
    images = batch.images.to(subject.device)
    ours, initial = (_features(model, images) for model in (subject.model, fresh))
    subject.train()
    if not bool(torch.isfinite(ours).all()):
        return Finding(
            CHECK,
            "error",
            f"{evidence}; the features of {len(images)} images are no finite numbers",
            "save or download the weights again",
        )
    difference = float((ours - initial).norm() / initial.norm().clamp(min=1e-12))
    evidence += (
        f"; features differ from those of a new model by {difference:.0%}, images are "
        f"{_likeness(ours):.2f} alike (new {_likeness(initial):.2f})"
    )
    if difference < 0.01:
        return Finding(
            CHECK, "error", evidence, "give weights that were trained; these change nothing"
        )
    return Finding(CHECK, "ok", evidence)


def _is_constant(value: Tensor) -> bool:
    return value.numel() > 1 and bool((value == value.flatten()[0]).all())


@torch.no_grad()
def _features(model: Model, images: Tensor) -> Tensor:
    """Return the mean of the coarsest map of each image."""
    return model.eval().backbone(images)[-1].float().mean(dim=(2, 3))


def _likeness(features: Tensor) -> float:
    """Mean cosine between the features of different images."""
    unit = F.normalize(features, dim=1)
    pairs = (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool, device=unit.device)]
    return float(pairs.mean()) if len(pairs) else 1.0
