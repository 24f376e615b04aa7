"""A run starts from weights that are called by a path, a name of the catalogue or a hub."""

from pathlib import Path

import pytest
import timm
import torch

import ziggurat
from ziggurat import pretrained, zoo
from ziggurat.config.files import load_run
from ziggurat.config.tree import TrainConfig
from ziggurat.engine import model as engine_model
from ziggurat.engine.output import with_absolute_paths
from ziggurat.weights.catalogue import FILES

RECIPE = "retinanet_p2t_small_1x_coco"


@pytest.fixture(autouse=True, scope="module")
def listed_mini(p2t_mini: str) -> str:
    return p2t_mini


def _config(field: str, text: str) -> TrainConfig:
    return load_run(RECIPE, ["--data.root=data", f"--model.{field}={text}"])


@pytest.mark.parametrize("text", ["true", "pvt_tiny.pth", "PATH"])
@pytest.mark.parametrize("field", ["weights", "backbone_weights"])
def test_every_name_of_weights(
    field: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zoo.create_model("p2t_mini", num_classes=3)
    path = tmp_path / "own.safetensors"
    ziggurat.save_weights(source, path)
    monkeypatch.setattr(pretrained, "fetch", lambda file, **_: path)
    monkeypatch.setattr(pretrained, "_published", lambda model: FILES["pvt_tiny.pth"])
    model = zoo.create_model("p2t_mini", num_classes=3)
    said: list[str] = []
    config = _config(field, str(path) if text == "PATH" else text)
    engine_model.start_from_weights(model, config, said.append)
    expected, loaded = source.backbone.state_dict(), model.backbone.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())
    assert len(said) == 1


def test_a_network_of_timm(tmp_path: Path) -> None:
    source = timm.create_model("test_resnet")
    torch.save(source.state_dict(), tmp_path / "timm.pth")
    model = zoo.create_model("retinanet", backbone="timm:test_resnet", num_classes=3)
    said: list[str] = []
    config = _config("backbone_weights", str(tmp_path / "timm.pth"))
    engine_model.start_from_weights(model, config, said.append)
    name = "conv1.0.weight"
    assert torch.equal(model.backbone.state_dict()[f"model.{name}"], source.state_dict()[name])
    assert "classifier" in said[0]


@pytest.mark.parametrize("text", ["true", "pvt_tiny.pth", "hf:user/name"])
def test_names_do_not_become_paths(text: str) -> None:
    run = with_absolute_paths(_config("backbone_weights", text))
    assert run.model.backbone_weights == text
    run = with_absolute_paths(_config("backbone_weights", "a.pth"))
    assert run.model.backbone_weights == str(Path("a.pth").absolute())
    run = with_absolute_paths(_config("backbone_weights", "~no_such_user/a.pth"))
    assert run.model.backbone_weights == str(Path("~no_such_user/a.pth").absolute())
