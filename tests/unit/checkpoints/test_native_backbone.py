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
