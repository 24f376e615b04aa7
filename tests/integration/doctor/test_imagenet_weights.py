"""An ImageNet file of every family of backbones fills what it is meant to fill."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from ziggurat import pretrained, zoo
from ziggurat.checkpoints.native import save_weights
from ziggurat.doctor.classes import check_classes
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.colours import check_colours
from ziggurat.doctor.subject import Subject
from ziggurat.doctor.weights import check_weights
from ziggurat.weights.catalogue import FILES

Opened = Callable[..., Subject]

SEGMENTER = ("--model.name=semantic_fpn",)
SMALL = ("--data.short_side=128", "--data.crop=[96,96]", "--data.batch_size=4")


def train_a_little(weights: dict[str, Tensor]) -> None:
    """Move every value a little, those of batch norms too, as training does."""
    for value in weights.values():
        if value.is_floating_point():
            value.add_(0.02 * torch.rand_like(value) - 0.01)


def imagenet_file(backbone: str, path: Path) -> Path:
    """Write a file of a classifier: one of torchvision for a ResNet, else one of ours."""
    if backbone == "resnet50":
        weights = torchvision.models.resnet50().state_dict()
        train_a_little(weights)
        torch.save(weights, path.with_suffix(".pth"))
        return path.with_suffix(".pth")
    model = zoo.create_model(backbone, num_classes=3)
    train_a_little(model.state_dict())
    save_weights(model, path)
    return path


@pytest.mark.parametrize(
    ("backbone", "task", "words", "recipe"),
    [
        ("pvt_tiny", "segmentation", (*SEGMENTER, "--model.backbone=pvt_tiny"), None),
        ("pvt_v2_b0", "segmentation", (*SEGMENTER, "--model.backbone=pvt_v2_b0"), None),
        ("p2t_tiny", "segmentation", (), None),
        ("resnet50", "segmentation", (*SEGMENTER, "--model.backbone=resnet50"), None),
        ("topformer_tiny", "segmentation", SMALL, "topformer_seg_tiny_from_scratch"),
        (
            "gpvit_l1",  # its detectors have an adapter besides
            "detection",
            ("--model.name=retinanet", "--model.backbone=gpvit_l1_adapter"),
            None,
        ),
    ],
)
def test_of_every_family(
    backbone: str,
    task: str,
    words: tuple[str, ...],
    recipe: str | None,
    opened: Opened,
    tmp_path: Path,
) -> None:
    file = imagenet_file(backbone, tmp_path / "imagenet.safetensors")
    subject = opened(task, *words, f"--model.backbone_weights={file}", recipe=recipe)
    (finding,) = check_weights(subject, Clock(60.0))
    assert finding.verdict == "ok", finding.evidence
    assert bool(subject.absent) == (backbone in ("topformer_tiny", "gpvit_l1"))
    # What cannot be in the file is not missed, and everything else is.
    count = sum(
        value.is_floating_point() and f"backbone.{name}" not in subject.absent
        for name, value in subject.model.backbone.state_dict().items()
    )
    assert f"backbone {count} of {count}," in finding.evidence


@pytest.mark.parametrize("text", ["true", "pvt_tiny.pth"])
def test_weights_by_their_names(
    text: str, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of the catalogue stand for files, also where a check reads what they say."""
    model = zoo.create_model("p2t_tiny", num_classes=len(opened("classification").data.classes))
    model.classes = opened("classification").data.classes
    train_a_little(model.state_dict())
    save_weights(model, tmp_path / "own.safetensors")
    monkeypatch.setattr(pretrained, "fetch", lambda file, **_: tmp_path / "own.safetensors")
    monkeypatch.setattr(pretrained, "_published", lambda model: FILES["pvt_tiny.pth"])
    subject = opened("classification", f"--model.weights={text}")
    (finding,) = check_classes(subject, Clock(60.0))
    assert finding.verdict == "ok"
    assert finding.evidence.endswith("in the order of the weights")
    checks = {finding.check: finding.verdict for finding in check_colours(subject, Clock(60.0))}
    assert checks["channel order"] == "ok"
