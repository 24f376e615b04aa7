"""PVT v1 gives what the official code gives, loaded from files in the official layout."""

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
        "pvt_tiny-224",
        "pvt_tiny-192x256",
        "pvt_tiny-112x448",  # as many patches as at 224, of another shape
        pytest.param("pvt_small-224", marks=pytest.mark.slow),
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
    for stage in model.backbone.stages:
        stage.register_forward_hook(lambda _, inputs, output: outputs.append(to_tokens(output)))
    with torch.inference_mode():
        logits = model(case.images())
    assert case.error("logits", logits) < TOLERANCE
    assert len(outputs) == 4
    for i, tokens in enumerate(outputs, start=1):
        assert case.error(f"stage{i}", tokens) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "ignored", "levels"),
    [
        ("pvt_small-det-256x320", 0, ["c2", "c3", "c4", "c5"]),
        # Class token, its norm and the classifier stay behind.
        ("pvt_small-det-from-imagenet-256x320", 5, ["c2", "c3", "c4", "c5"]),
        pytest.param("pvt_small-seg-256x320", 0, ["c2", "c3", "c4", "c5"], marks=pytest.mark.slow),
        # The same network, of which DETR takes the last map only.
        ("pvt_small_f4-det-256x320", 0, ["c5"]),
    ],
)
def test_backbone_gives_the_official_maps(
    name: str, ignored: int, levels: list[str], golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{name}")
    backbone = ziggurat.create_backbone("pvt_small").eval()
    report = ziggurat.load_official(backbone, case.file(tmp_path))
    assert len(report.ignored) == ignored
    assert len(report.matched) == len(case.facts["entries"]) - ignored
    with torch.inference_mode():
        maps = backbone(case.images())
    assert list(case.facts["outputs"]) == levels
    for level, features in zip(levels, maps[-len(levels) :], strict=True):
        assert case.error(level, features) < TOLERANCE


def test_position_embedding_of_another_size_is_resized_and_reported(
    golden: Callable[[str], Any],
) -> None:
    weights = golden("backbones/pvt_tiny-224").weights()
    weights["pos_embed4"] = torch.full((1, 1 + 12 * 12, 512), 0.5)  # made for 384 x 384 pixels
    backbone = ziggurat.create_backbone("pvt_tiny")
    report = ziggurat.load_official(backbone, weights)
    assert report.resized == (("pos_embed4", "stages.3.pos_embed"),)
    resized = backbone.state_dict()["stages.3.pos_embed"]
    assert torch.equal(resized, torch.full((1, 50, 512), 0.5))


@pytest.mark.parametrize(
    ("name", "is_classifier"),
    [
        ("pvt_tiny-224", True),
        ("pvt_small-224", True),
        ("pvt_small-det-256x320", False),
        ("pvt_small-det-from-imagenet-256x320", False),
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
