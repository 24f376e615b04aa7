"""A backbone goes from one task to another in our own files."""

from pathlib import Path

import pytest
import torch

from ziggurat import zoo
from ziggurat.checkpoints.native import load_backbone, save_weights
from ziggurat.errors import ZigguratError


def saved(name: str, folder: Path) -> Path:
    path = folder / f"{name}.safetensors"
    save_weights(zoo.create_model(name, num_classes=3), path)
    return path


@pytest.mark.parametrize(
    ("name", "left_out", "stays"),
    [
        (
            "pvt_tiny",
            ["backbone.norm.bias", "backbone.norm.weight", "backbone.stages.3.cls_token"],
            0,
        ),
        ("topformer_tiny", [], 54),
        ("gpvit_l1", [], 6),
        ("pvt_v2_b0", [], 0),
    ],
)
def test_of_a_classifier_into_dense_prediction(
    name: str, left_out: list[str], stays: int, tmp_path: Path
) -> None:
    backbone = zoo.create_backbone(name)
    report = load_backbone(backbone, name, saved(name, tmp_path))
    ignored = [entry for entry, _ in report.ignored if entry.startswith("backbone.")]
    assert sorted(ignored) == left_out
    assert len(report.absent) == stays
    assert len(report.matched) + stays == len(backbone.state_dict())


def test_of_a_classifier_into_another_one_keeps_its_class_token(tmp_path: Path) -> None:
    source = zoo.create_model("pvt_tiny", num_classes=3)
    save_weights(source, tmp_path / "pvt.safetensors")
    trunk, _ = zoo.create_classifier_parts("pvt_tiny", 5)
    load_backbone(trunk, "pvt_tiny", tmp_path / "pvt.safetensors")
    loaded = trunk.state_dict()
    assert all(torch.equal(v, loaded[n]) for n, v in source.backbone.state_dict().items())


def test_of_another_name(tmp_path: Path) -> None:
    backbone = zoo.create_backbone("p2t_small")
    with pytest.raises(ZigguratError, match="holds the backbone pvt_v2_b0 .* expected p2t_small"):
        load_backbone(backbone, "p2t_small", saved("pvt_v2_b0", tmp_path))


def test_of_a_plain_gpvit_into_one_with_an_adapter(tmp_path: Path) -> None:
    """A classifier of ours starts a detector, as the published ImageNet file does."""
    source = zoo.create_model("gpvit_l1", num_classes=3)
    save_weights(source, tmp_path / "gpvit.safetensors")
    backbone = zoo.create_backbone("gpvit_l1_adapter")
    report = load_backbone(backbone, "gpvit_l1_adapter", tmp_path / "gpvit.safetensors")
    loaded = backbone.state_dict()
    for name, value in source.backbone.state_dict().items():
        assert name.startswith("norms.") or torch.equal(loaded[name], value)
    reasons = {name: reason for name, reason in report.ignored if name.startswith("backbone.")}
    assert reasons.keys() == {"backbone.norms.11.weight", "backbone.norms.11.bias"}
    absent = {name for name, _ in report.absent}
    assert {"level_embed", "up.weight", "norms.4.weight"} <= absent
    assert len(report.matched) + len(absent) == len(loaded)


def test_of_one_with_an_adapter(tmp_path: Path) -> None:
    name = "gpvit_l1_adapter"
    source = zoo.create_model("mask_rcnn", backbone=name, num_classes=3, head_channels=16)
    file = tmp_path / "detector.safetensors"
    save_weights(source, file)
    backbone = zoo.create_backbone(name)
    report = load_backbone(backbone, name, file)
    assert not report.absent
    loaded = backbone.state_dict()
    assert all(torch.equal(v, loaded[n]) for n, v in source.backbone.state_dict().items())
    with pytest.raises(ZigguratError, match="holds the backbone gpvit_l1_adapter .* gpvit_l1;"):
        load_backbone(zoo.create_backbone("gpvit_l1"), "gpvit_l1", file)
