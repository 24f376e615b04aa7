"""P2T gives what the official code gives, loaded from files in the official layout."""

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
    ["p2t_tiny-224", "p2t_tiny-192x256", pytest.param("p2t_small-224", marks=pytest.mark.slow)],
)
def test_classifier_gives_the_official_logits(
    name: str, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{name}")
    model = ziggurat.create_model(case.facts["model"]).eval()
    report = ziggurat.load_official(model, case.file(tmp_path))
    assert len(report.matched) == len(case.facts["entries"])
    with torch.inference_mode():
        logits = model(case.images())
        maps = model.backbone(case.images())
    assert case.error("logits", logits) < TOLERANCE
    for i, stage in enumerate(maps, start=1):
        assert case.error(f"stage{i}", to_tokens(stage)) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("p2t_small-det-256x320", 0),
        ("p2t_small-det-from-imagenet-256x320", 2),  # the ImageNet head
        pytest.param(
            "p2t_small-seg-256x320", 2, marks=pytest.mark.slow
        ),  # the head that segmentation files carry along unused
    ],
)
def test_backbone_gives_the_official_maps(
    name: str, ignored: int, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{name}")
    backbone = ziggurat.create_backbone("p2t_small").eval()
    report = ziggurat.load_official(backbone, case.file(tmp_path))
    assert len(report.ignored) == ignored
    assert len(report.matched) == len(case.facts["entries"]) - ignored
    with torch.inference_mode():
        maps = backbone(case.images())
    for level, features in zip(("c2", "c3", "c4", "c5"), maps, strict=True):
        assert case.error(level, features) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "millions"),
    [("p2t_tiny", 11.590840), ("p2t_small", 24.080)],
)
def test_parameters_are_those_of_the_official_model(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=1e-3)
