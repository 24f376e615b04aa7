"""PVT v2 gives what the official code gives, loaded from files in the official layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ziggurat
from ziggurat.layers.tokens import to_tokens

TOLERANCE = 2e-5


@pytest.mark.parametrize(
    "name",
    [
        "pvt_v2_b0-224",
        "pvt_v2_b0-192x256",
        pytest.param("pvt_v2_b2-224", marks=pytest.mark.slow),
        "pvt_v2_b2_li-192x256",
    ],
)
def test_classifier_gives_the_official_logits(
    name: str, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{name}")
    model: Any = ziggurat.create_model(case.facts["model"]).eval()
    report = ziggurat.load_official(model, case.file(tmp_path))
    assert len(report.matched) == len(case.facts["entries"])
    outputs = []
    for stage in model.backbone.stages:  # the golden values are those before the stage's norm
        stage.norm.register_forward_hook(lambda _, inputs, output: outputs.append(inputs[0]))
    with torch.inference_mode():
        logits = model(case.images())
    assert case.error("logits", logits) < TOLERANCE
    assert len(outputs) == 4
    for i, features in enumerate(outputs, start=1):
        assert case.error(f"stage{i}", to_tokens(features)) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("pvt_v2_b2-det-256x320", 0),
        ("pvt_v2_b2-det-from-imagenet-256x320", 2),  # the ImageNet head
        ("pvt_v2_b2_li-det-320x224", 0),
    ],
)
def test_backbone_gives_the_official_maps(
    name: str, ignored: int, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{name}")
    backbone = ziggurat.create_backbone(case.facts["model"]).eval()
    report = ziggurat.load_official(backbone, case.file(tmp_path))
    assert len(report.ignored) == ignored
    assert len(report.matched) == len(case.facts["entries"]) - ignored
    with torch.inference_mode():
        maps = backbone(case.images())
    for level, features in zip(("c2", "c3", "c4", "c5"), maps, strict=True):
        assert case.error(level, features) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "is_classifier"),
    [
        ("pvt_v2_b0-224", True),
        ("pvt_v2_b2-224", True),
        ("pvt_v2_b2_li-192x256", True),
        ("pvt_v2_b2-det-256x320", False),
        ("pvt_v2_b2_li-det-320x224", False),
    ],
)
def test_parameters_are_those_of_the_official_model(
    name: str, is_classifier: bool, golden: Callable[[str], Any]
) -> None:
    facts = golden(f"backbones/{name}").facts
    build: Any = ziggurat.create_model if is_classifier else ziggurat.create_backbone
    with torch.device("meta"):
        model = build(facts["model"])
    assert sum(p.numel() for p in model.parameters()) == facts["params"]
