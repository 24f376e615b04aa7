"""TopFormer gives what the official code gives, loaded from files in the official layouts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ziggurat
from ziggurat.backbones.topformer import TopFormer

TOLERANCE = 2e-5

PADDLE = [
    "topformer_tiny-paddle-224",
    "topformer_tiny-paddle-192x256",
    "topformer_small-paddle-224",
]
SEGMENTERS = ["topformer_tiny-seg-ade20k-512x512", "topformer_small-seg-ade20k-512x512"]


def run_and_watch(
    model: nn.Module, backbone: TopFormer, images: Tensor
) -> tuple[Any, dict[str, Tensor]]:
    """Run a model and keep what passes between the parts of its backbone."""
    seen: dict[str, Tensor] = {}

    def keep_tokens(module: nn.Module, inputs: object, tokens: list[Tensor]) -> None:
        seen.update({f"tpm{i}": value for i, value in enumerate(tokens)})

    def keep_pooled(module: nn.Module, inputs: tuple[Tensor]) -> None:
        seen["ppa"] = inputs[0]

    def keep_semantics(module: nn.Module, inputs: object, semantics: Tensor) -> None:
        seen["trans"] = semantics

    backbone.pyramid.register_forward_hook(keep_tokens)
    backbone.blocks[0].register_forward_pre_hook(keep_pooled)
    backbone.blocks[-1].register_forward_hook(keep_semantics)
    with torch.inference_mode():
        return model(images), seen


@pytest.mark.parametrize("name", PADDLE)
def test_classifier_gives_the_official_logits(
    name: str, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{name}")
    model = ziggurat.create_model(case.facts["model"]).eval()
    report = ziggurat.load_official(model, case.file(tmp_path))
    assert len(report.matched) == len(case.facts["entries"])
    assert {name.rpartition(".")[2] for name, _ in report.absent} == {"num_batches_tracked"}
    assert isinstance(model.backbone, TopFormer)
    logits, seen = run_and_watch(model, model.backbone, case.images())
    assert case.error("logits", logits) < TOLERANCE
    assert len(seen) == 6
    for key, value in seen.items():
        assert case.error(key, value) < TOLERANCE, key


@pytest.mark.parametrize("name", SEGMENTERS)
def test_backbone_gives_the_official_maps(
    name: str, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{name}")
    backbone = ziggurat.create_backbone(case.facts["model"]).eval()
    report = ziggurat.load_official(backbone, case.file(tmp_path))
    assert {name.split(".")[0] for name, _ in report.ignored} == {"decode_head"}
    assert len(report.ignored) == 8
    assert len(report.matched) == len(case.facts["entries"]) - 8
    assert not report.absent
    assert isinstance(backbone, TopFormer)
    maps, seen = run_and_watch(backbone, backbone, case.images())
    for i, injected in enumerate(maps, start=1):
        assert case.error(f"sim{i}", injected) < TOLERANCE
    assert len(seen) == 6
    for key, value in seen.items():
        assert case.error(key, value) < TOLERANCE, key


@pytest.mark.parametrize("name", ["topformer_tiny", "topformer_small"])
def test_a_classifier_loads_into_a_segmenter_without_its_injection(
    name: str, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{name}-paddle-224")
    backbone = ziggurat.create_backbone(name)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    report = ziggurat.load_official(backbone, case.file(tmp_path))
    assert {name for name, _ in report.ignored} == {
        *(f"head.bn.{entry}" for entry in ("weight", "bias", "_mean", "_variance")),
        *("head.l.weight", "head.l.bias"),
    }
    absent = {name for name, _ in report.absent if "injections" in name}
    assert len(absent) == 3 * 3 * 6
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]) == (
            key in absent or key.endswith("num_batches_tracked")
        ), key


@pytest.mark.parametrize("name", SEGMENTERS)
def test_paddle_may_name_the_statistics_of_a_segmenter(
    name: str, golden: Callable[[str], Any]
) -> None:
    """PaddleSeg has the official names, but for statistics, and counts no batches."""
    case = golden(f"backbones/{name}")
    weights = {
        key.replace("running_mean", "_mean").replace("running_var", "_variance"): value
        for key, value in case.weights().items()
        if not key.endswith("num_batches_tracked")
    }
    ours, theirs = (ziggurat.create_backbone(case.facts["model"]) for _ in range(2))
    ziggurat.load_official(ours, case.weights())
    report = ziggurat.load_official(theirs, weights)
    assert {name.rpartition(".")[2] for name, _ in report.absent} == {"num_batches_tracked"}
    others = theirs.state_dict()
    assert all(torch.equal(value, others[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("topformer_tiny", 1_503_304), ("topformer_small", 3_105_928), ("topformer_base", 5_069_000)],
)
def test_parameters_are_those_of_the_official_model(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(name)
    count = sum(p.numel() for p in model.parameters())
    assert count == pytest.approx(parameters, abs=0 if name != "topformer_base" else 1000)
