"""GPViT gives what the official code gives, loaded from files in the official layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ziggurat
from ziggurat.backbones.gpvit import GPViT
from ziggurat.backbones.gpvit_adapter import GPViTAdapter, gpvit_l1_adapter
from ziggurat.layers.tokens import to_tokens
from ziggurat.models.classifier import Classifier

TOLERANCE = 2e-5
SHOWN_LAYERS = (0, 1, 2, 4, 7, 10, 11)


@pytest.mark.parametrize(
    "name",
    ["gpvit_l1-224", "gpvit_l1-192x256", pytest.param("gpvit_l2-224", marks=pytest.mark.slow)],
)
def test_classifier_gives_the_official_values_in_every_layer(
    name: str, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{name}")
    model = ziggurat.create_model(case.facts["model"]).eval()
    assert isinstance(model, Classifier)
    assert isinstance(model.backbone, GPViT)
    report = ziggurat.load_official(model, case.file(tmp_path))
    assert len(report.matched) == len(case.facts["entries"])
    layers: dict[str, Tensor] = {}
    for i in SHOWN_LAYERS:
        model.backbone.blocks[i].register_forward_hook(
            lambda _module, _inputs, output, i=i: layers.update({f"layer{i}": to_tokens(output)})
        )
    with torch.inference_mode():
        logits = model(case.images())
        features = model.backbone.forward_features(case.images())
        vector = model.head.pool(features)
    assert len(layers) == len(SHOWN_LAYERS)
    for layer, tokens in layers.items():
        assert case.error(layer, tokens) < TOLERANCE
    assert case.error("features", features) < TOLERANCE
    assert case.error("neck", vector) < TOLERANCE
    assert case.error("logits", logits) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "ignored", "absent"),
    [
        ("gpvit_l1-seg-256x320", 0, 0),
        ("gpvit_l1-seg-from-imagenet-256x320", 6, 6),  # neck and head; norm2, norm5, norm8
    ],
)
def test_backbone_gives_the_official_maps(
    name: str, ignored: int, absent: int, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{name}")
    backbone = ziggurat.create_backbone("gpvit_l1").eval()
    report = ziggurat.load_official(backbone, case.file(tmp_path))
    assert len(report.ignored) == ignored
    assert len(report.absent) == absent
    assert len(report.matched) == len(case.facts["entries"]) - ignored
    with torch.inference_mode():
        maps = backbone(case.images())
    for output, features in zip(("out2", "out5", "out8", "out11"), maps, strict=True):
        assert case.error(output, features) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "is_single_stage"),
    [
        ("gpvit_l1-adapter-det-256x320", False),
        pytest.param("gpvit_l1-adapter-single-stage-det-256x320", True, marks=pytest.mark.slow),
    ],
)
def test_adapter_gives_the_official_pyramid(
    name: str, is_single_stage: bool, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{name}")
    backbone = gpvit_l1_adapter(is_single_stage=is_single_stage).eval()
    report = ziggurat.load_official(backbone, case.file(tmp_path))
    assert len(report.matched) == len(case.facts["entries"])
    with torch.inference_mode():
        maps = backbone(case.images())
    for output, features in zip(("f1", "f2", "f3", "f4")[is_single_stage:], maps, strict=True):
        assert case.error(output, features) < TOLERANCE


def test_adapter_takes_the_transformer_of_an_imagenet_file(
    golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden("backbones/gpvit_l1-224")
    backbone = ziggurat.create_backbone("gpvit_l1_adapter")
    assert isinstance(backbone, GPViTAdapter)
    prior = {name: value.clone() for name, value in backbone.prior.state_dict().items()}
    report = ziggurat.load_official(backbone, case.file(tmp_path))
    assert len(report.ignored) == 8  # neck, head and the norm in front of them
    transformer = [n for n in backbone.state_dict() if n.startswith(("patch_embed.", "blocks."))]
    assert len(report.matched) == len(transformer) == len(case.facts["entries"]) - 8
    assert len(report.absent) == len(backbone.state_dict()) - len(transformer)
    for name, value in backbone.prior.state_dict().items():
        assert torch.equal(value, prior[name])


@pytest.mark.parametrize(
    ("name", "num_parameters"), [("gpvit_l1", 9_589_848), ("gpvit_l2", 24_162_680)]
)
def test_parameters_are_those_of_the_official_model(name: str, num_parameters: int) -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == num_parameters


@pytest.mark.parametrize(("name", "millions"), [("gpvit_l3", 36.654), ("gpvit_l4", 75.484)])
def test_larger_models_have_the_counted_size(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=1e-3)
