"""`create_model(pretrained=...)` takes weights from wherever they are, and says what it loaded."""

import inspect
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ziggurat
from ziggurat import pretrained, zoo
from ziggurat.errors import ZigguratError
from ziggurat.weights.catalogue import FILES
from ziggurat.weights.published_file import PublishedFile
from ziggurat.zoo import Model

# Our names to those of github.com/yuhuan-wu/P2T, whose stages are counted from 1.
OFFICIAL = (
    (r"backbone\.stages\.(\d)\.", lambda match: f"stage{int(match[1]) + 1}."),
    (r"stage(\d)\.patch_embed", r"patch_embed\1"),
    (r"stage(\d)\.pool_convs", r"d_convs\1"),
    (r"stage(\d)\.blocks", r"block\1"),
    (r"attn\.(q|kv)\.", r"attn.\1.0."),
    (r"attn\.pool_norm", r"attn.norm"),
    (r"head\.fc\.", r"head."),
)


@pytest.fixture(autouse=True, scope="module")
def listed_mini(p2t_mini: str) -> str:
    return p2t_mini


@pytest.fixture
def model() -> Model:
    return ziggurat.create_model("p2t_mini")


@pytest.fixture
def official(model: Model, tmp_path: Path) -> Path:
    """What the official code would have saved for `model`."""
    entries = {}
    for name, value in model.state_dict().items():
        for pattern, replacement in OFFICIAL:
            name = re.sub(pattern, replacement, name)
        entries[name] = value
    path = tmp_path / "p2t_mini.pth"
    torch.save({"model": entries}, path)
    return path


@pytest.fixture
def listed(
    server: Any, published: PublishedFile, official: Path, monkeypatch: pytest.MonkeyPatch
) -> PublishedFile:
    """The official file as one of the catalogue, on a server."""
    server.content = official.read_bytes()
    file = replace(published, name="listed.pth", model="p2t_mini")
    monkeypatch.setitem(FILES, file.name, file)
    return file


def weights(module: torch.nn.Module) -> list[Tensor]:
    return list(module.state_dict().values())


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(map(torch.equal, weights(one), weights(other)))


def test_options_are_those_of_the_zoo() -> None:
    for ours, theirs in (
        (pretrained.create_model, zoo.create_model),
        (pretrained.create_backbone, zoo.create_backbone),
    ):
        options = dict(inspect.signature(ours).parameters)
        del options["pretrained"]
        assert options == dict(inspect.signature(theirs).parameters)
    assert ziggurat.create_model is pretrained.create_model


def test_fresh_weights_by_default(model: Model) -> None:
    assert not same(model, ziggurat.create_model("p2t_mini"))


@pytest.mark.parametrize("source", [True, "listed.pth"])
def test_published_weights_are_downloaded_once(
    source: bool | str, model: Model, listed: PublishedFile, server: Any
) -> None:
    assert same(model, ziggurat.create_model("p2t_mini", pretrained=source))
    assert same(model, ziggurat.create_model("p2t_mini", pretrained=source))
    assert len(server.requests) == 1


def test_a_path_of_an_official_file(model: Model, official: Path) -> None:
    assert same(model, ziggurat.create_model("p2t_mini", pretrained=official))
    assert same(model, ziggurat.create_model("p2t_mini", pretrained=str(official)))
    assert same(model.backbone, ziggurat.create_backbone("p2t_mini", pretrained=official))


def test_a_path_of_our_own_file(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    ziggurat.save_weights(model, path)
    assert same(model, ziggurat.create_model("p2t_mini", pretrained=path))
    assert same(model.backbone, ziggurat.create_backbone("p2t_mini", pretrained=path))
    other = ziggurat.create_model("p2t_mini", num_classes=4, pretrained=path)
    assert same(model.backbone, other.backbone)
    with pytest.raises(ZigguratError, match="holds the backbone p2t_mini .*, expected p2t_tiny"):
        ziggurat.create_backbone("p2t_tiny", pretrained=path)


def test_other_classes_keep_fresh_weights_and_are_logged(
    model: Model, official: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ziggurat"):
        other = ziggurat.create_model("p2t_mini", num_classes=7, pretrained=official)
    assert same(model.backbone, other.backbone)
    assert "made for other classes, ours keeps its initial values" in caplog.text


def test_report_of_a_model_that_exists(model: Model, official: Path) -> None:
    other = zoo.create_model("p2t_mini")
    report = ziggurat.load_pretrained(other, official)
    assert len(report.matched) == len(model.state_dict())
    assert same(model, other)


def test_the_file_on_the_disk_goes_first(
    model: Model,
    listed: PublishedFile,
    official: Path,
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(official.parent)
    official.rename("listed.pth")
    assert same(model, ziggurat.create_model("p2t_mini", pretrained="listed.pth"))
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("p2t_tiny", True, r"cannot be downloaded by a program: save p2t_tiny\.pth from https"),
        ("p2t_medium", True, "no weights are published for 'p2t_medium'; give the path"),
        ("p2t_mini", "nowhere.pth", r"there is no file nowhere\.pth"),
    ],
)
def test_weights_that_cannot_be_had(name: str, source: bool | str, message: str) -> None:
    with torch.device("meta"), pytest.raises(ZigguratError, match=message):
        ziggurat.create_model(name, pretrained=source)


def test_other_channels_have_no_published_weights(official: Path) -> None:
    with pytest.raises(ZigguratError, match="images of 3 channels, got in_channels=1"):
        ziggurat.create_backbone("p2t_mini", in_channels=1, pretrained=official)
    with pytest.raises(ZigguratError, match="pretrained is False"):
        ziggurat.load_pretrained(zoo.create_model("p2t_mini"), False)
