"""Networks of timm as backbones get weights through timm's own loader."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import _builder
from torch import Tensor, nn

import ziggurat
from ziggurat import pretrained
from ziggurat.errors import ZigguratError

NETWORKS = ("test_resnet", "test_vit", "test_efficientnet")


def _maps(network: nn.Module, images: Tensor) -> Any:
    with torch.inference_mode():
        return network.eval()(images)


def _source(name: str, **options: Any) -> Any:
    torch.manual_seed(1)
    return timm.create_model(name, **options)


@pytest.mark.parametrize("num_classes", [1000, 7, 0])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_is_loaded_without_its_classifier(
    name: str, num_classes: int, tmp_path: Path
) -> None:
    source = _source(name, num_classes=num_classes)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "timm.pth")
    backbone = ziggurat.create_backbone(f"timm:{name}", pretrained=tmp_path / "timm.pth")
    report = pretrained.load_pretrained_backbone(backbone, f"timm:{name}", tmp_path / "timm.pth")
    assert {ours for _, ours in report.matched} == backbone.state_dict().keys()
    for theirs, ours in report.matched:
        assert torch.equal(backbone.state_dict()[ours], source.state_dict()[theirs])
    loaded = {theirs for theirs, _ in report.matched}
    ignored = {theirs for theirs, _ in report.ignored}
    assert loaded | ignored == source.state_dict().keys()
    assert "classifier" in report.summary() or not ignored


def test_the_maps_are_those_of_timm(tmp_path: Path) -> None:
    source = _source("test_resnet")
    torch.save(source.state_dict(), tmp_path / "timm.pth")
    backbone = ziggurat.create_backbone("timm:test_resnet", pretrained=tmp_path / "timm.pth")
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(
        _maps(backbone, images)[-1], source.eval().forward_features(images).detach()
    )


def test_published_weights_come_through_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    source = _source("test_resnet")
    monkeypatch.setattr(
        _builder, "load_state_dict_from_hf", lambda *_, **__: dict(source.state_dict())
    )
    backbone = ziggurat.create_backbone("timm:test_resnet", pretrained=True)
    assert torch.equal(
        backbone.state_dict()["model.conv1.0.weight"], source.state_dict()["conv1.0.weight"]
    )


def test_weights_that_do_not_fit_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = dict(_source("test_resnet").state_dict())
    torch.save(weights | {"other.weight": torch.zeros(1)}, tmp_path / "more.pth")
    weights.popitem()
    torch.save(weights, tmp_path / "less.pth")
    backbone = ziggurat.create_backbone("timm:test_resnet")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    for path, fault in ((tmp_path / "more.pth", "Unexpected"), (tmp_path / "less.pth", "Missing")):
        with pytest.raises(ZigguratError, match=f"does not fit 'test_resnet' of timm: .*{fault}"):
            pretrained.load_pretrained_backbone(backbone, "timm:test_resnet", path)
    assert all(map(torch.equal, before.values(), backbone.state_dict().values()))

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no connection")

    monkeypatch.setattr(_builder, "load_state_dict_from_hf", fail)
    with pytest.raises(ZigguratError, match=r"no connection.*or give the path of a file"):
        ziggurat.create_backbone("timm:test_resnet", pretrained=True)
    with pytest.raises(ZigguratError, match="leave use_ema out"):
        ziggurat.create_backbone("timm:test_resnet", pretrained=True, use_ema=True)
