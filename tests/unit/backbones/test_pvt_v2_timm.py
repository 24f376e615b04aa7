"""PVT v2 weights go to timm and come back."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import ziggurat
from ziggurat.checkpoints.pvt_v2 import to_timm
from ziggurat.errors import ZigguratError


def randomize(model: nn.Module) -> None:
    """Give every entry values that are all its own."""
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.02 * torch.randn_like(value))


@pytest.mark.parametrize("name", ["pvt_v2_b0", "pvt_v2_b2_li"])
def test_weights_go_both_ways_and_give_the_same_logits(name: str) -> None:
    ours: Any = ziggurat.create_model(name).eval()
    theirs: Any = timm.create_model(name).eval()
    images = torch.randn(1, 3, 97, 64)
    randomize(theirs)
    report = ziggurat.load_official(ours, theirs.state_dict())
    assert len(report.matched) == len(theirs.state_dict())
    assert not report.ignored
    with torch.inference_mode():
        first = theirs(images)
        torch.testing.assert_close(ours(images), first, atol=1e-5, rtol=1e-5)
    randomize(ours)
    theirs.load_state_dict(to_timm(ours))  # strict
    with torch.inference_mode():
        second = theirs(images)
        torch.testing.assert_close(second, ours(images), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(first, second, atol=1e-3)


def test_backbone_takes_weights_of_timm_without_the_head() -> None:
    theirs = timm.create_model("pvt_v2_b0", features_only=True).eval()
    classifier = timm.create_model("pvt_v2_b0").eval()
    backbone = ziggurat.create_backbone("pvt_v2_b0").eval()
    report = ziggurat.load_official(backbone, classifier.state_dict())
    assert {name for name, _ in report.ignored} == {"head.weight", "head.bias"}
    theirs.load_state_dict(
        {name.replace("stages.", "stages_"): v for name, v in to_timm(backbone).items()}
    )
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        maps, features = backbone(images), theirs(images)
    assert [m.shape for m in maps] == [f.shape for f in features]
    for ours, other in zip(maps, features, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["pvt_v2_b0", "pvt_v2_b1", "pvt_v2_b2", "pvt_v2_b2_li", "pvt_v2_b3", "pvt_v2_b4"]
)
def test_names_and_shapes_are_those_of_timm(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = ziggurat.create_model(name), timm.create_model(name)

    def shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
        return {key: value.shape for key, value in weights.items()}

    assert shapes(to_timm(ours)) == shapes(theirs.state_dict())


def test_another_family_cannot_go_to_timm() -> None:
    with torch.device("meta"):
        model = ziggurat.create_backbone("p2t_tiny")
    with pytest.raises(ZigguratError, match="no model with the entries of a P2T; only PVT v2"):
        to_timm(model)
