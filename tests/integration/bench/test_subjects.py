"""Names become models, ours and those of other libraries."""

import importlib.util
import sys

import pytest
import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from ziggurat.bench.subjects import TRANSFORMERS_MODELS, LogitsOf, find_subject, is_peer
from ziggurat.errors import ZigguratError
from ziggurat.models.detector import Detector
from ziggurat.models.semantic_segmenter import SemanticSegmenter


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("p2t_tny", "unknown model 'p2t_tny'; did you mean 'p2t_tiny'"),
        ("resnet5", "unknown model 'resnet5'; did you mean 'resnet50'"),
        ("mask_rcnn", "unknown model 'mask_rcnn'; did you mean 'mask_rcnn_"),
        ("tim:resnet18", "unknown library 'tim'; did you mean 'timm'"),
        ("retinanett_timm:resnet18", "unknown model 'retinanett_timm:resnet18'"),
        ("timm:resnet81", "unknown timm model 'resnet81'; did you mean 'resnet"),
        ("timm:hf-hub:some/model", "unknown timm model"),
        (
            "torchvision:resnet8",
            "unknown torchvision classifier or detector 'resnet8'; did you mean 'resnet",
        ),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        find_subject(name)


def test_transformers_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ZigguratError, match="`pip install transformers`"):
        find_subject("transformers:pvt-small")


def test_models_and_backbones_of_ours(p2t_mini: str) -> None:
    with torch.device("meta"):
        model = find_subject(p2t_mini)()
        backbone = find_subject("resnet50")()
    assert model(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 1000)
    maps = backbone(torch.empty(2, 3, 64, 64, device="meta"))
    assert [m.shape[2] for m in maps] == [16, 8, 4, 2]


def test_no_branch_is_skipped_at_random() -> None:
    with torch.device("meta"):
        model = find_subject("p2t_base")()  # published with a drop path rate of 0.3
    assert not any(isinstance(module, DropPath) for module in model.modules())


@pytest.mark.parametrize("name", ["retinanet_resnet50", "semantic_fpn_timm:resnet18"])
def test_systems_on_any_backbone(name: str) -> None:
    assert not is_peer(name)
    with torch.device("meta"):
        model = find_subject(name)()
    assert isinstance(model, Detector | SemanticSegmenter)
    assert model.identity.name == name


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_peers(name: str) -> None:
    assert is_peer(name) and not is_peer("p2t_tiny")
    with torch.device("meta"):
        model = find_subject(name)()
        assert model.eval()(torch.empty(1, 3, 64, 64)).shape == (1, 1000)


def test_logits_of_a_model_that_returns_them_as_an_attribute() -> None:
    class Output:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    class Model(nn.Module):
        def forward(self, images: Tensor) -> Output:
            return Output(images.mean(dim=(2, 3)))

    assert LogitsOf(Model())(torch.ones(2, 3, 4, 4)).tolist() == [[1.0] * 3] * 2


# Millions of parameters in the published tables; PVT v1 has a class token, PVT v2 has none.
PUBLISHED = {
    "pvt-tiny": 13.2,
    "pvt-small": 24.5,
    "pvt-medium": 44.2,
    "pvt-large": 61.4,
    "pvt_v2_b0": 3.7,
    "pvt_v2_b1": 14.0,
    "pvt_v2_b2": 25.4,
    "pvt_v2_b2_linear": 22.6,
    "pvt_v2_b3": 45.2,
    "pvt_v2_b4": 62.6,
    "pvt_v2_b5": 82.0,
}


@pytest.mark.slow  # initialises 450 M parameters
@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
@pytest.mark.parametrize("name", TRANSFORMERS_MODELS)
def test_transformers_peers_have_the_published_size(name: str) -> None:
    model = find_subject(f"transformers:{name}")()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert round(parameters / 1e6, 1) == PUBLISHED[name]
