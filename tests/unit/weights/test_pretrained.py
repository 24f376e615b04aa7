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
from ziggurat.weights.cache import read_pin
from ziggurat.weights.catalogue import FILES
from ziggurat.weights.fetch import FOLDER, fetch
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
        del options["pretrained"], options["use_ema"]
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
    own = official.with_name("own.safetensors")
    ziggurat.save_weights(model, own)
    for path in (official, own):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "ziggurat"):
            other = ziggurat.create_model("p2t_mini", num_classes=7, pretrained=path)
        assert same(model.backbone, other.backbone)
        assert "made for other classes, ours keeps its initial values" in caplog.text
        caplog.clear()
        with caplog.at_level(logging.WARNING, "ziggurat"):
            ziggurat.create_model("p2t_mini", num_classes=1000, pretrained=path)
        assert not caplog.records


def test_other_classes_are_a_mistake_where_none_were_asked_for(
    official: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "own.safetensors"
    seven = zoo.create_model("p2t_mini", num_classes=7)
    ziggurat.save_weights(seven, own)
    with pytest.raises(ZigguratError, match="does not fit p2t_mini: .* if only the classes differ"):
        ziggurat.create_model("p2t_mini", pretrained=own)
    with pytest.raises(ZigguratError, match="with its number of classes .*; to train for other"):
        ziggurat.load_pretrained(seven, official)
    report = ziggurat.load_pretrained(seven, official, reset_classes=True)
    assert {name for name, _ in report.ignored} == {"head.weight", "head.bias"}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


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
        ("p2t_mini", "", "weights are True, a name of the catalogue, a path or hf:USER/NAME"),
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


def _of_another_model(official: Path) -> bytes:
    content = torch.load(official)["model"]
    content["patch_embed1.proj.weight"] = torch.zeros(9, 3, 7, 7)
    torch.save({"model": content}, official.with_name("other.pth"))
    return official.with_name("other.pth").read_bytes()


def test_the_weights_of_another_model_are_not_kept(
    model: Model, listed: PublishedFile, official: Path, server: Any, cache: Path
) -> None:
    right, server.content = server.content, _of_another_model(official)
    with pytest.raises(ZigguratError, match="nothing of it was kept: .* does not fit a P2T"):
        ziggurat.create_model("p2t_mini", pretrained=True)
    assert read_pin(cache / FOLDER, "listed.pth") is None
    server.content, server.etag = right, '"right"'
    assert same(model, ziggurat.create_model("p2t_mini", pretrained=True))


def test_a_kept_file_that_does_not_fit_is_named(
    listed: PublishedFile, official: Path, server: Any, cache: Path
) -> None:
    server.content = _of_another_model(official)
    path = fetch(listed)  # as it was kept before its content was compared with a model
    remove = f"remove {path} and its entry in {cache / FOLDER / 'pins.json'}, and run again"
    for create in (ziggurat.create_model, ziggurat.create_backbone):
        with pytest.raises(ZigguratError, match=re.escape(remove)):
            create("p2t_mini", pretrained="listed.pth")
    with pytest.raises(ZigguratError, match="does not fit") as caught:
        ziggurat.create_model("p2t_tiny", pretrained="listed.pth")
    assert "remove" not in str(caught.value)


def test_averaged_weights(model: Model, official: Path, tmp_path: Path) -> None:
    plain = torch.load(official)["model"]
    averaged = {name: value + 1 for name, value in plain.items()}
    both, alone = tmp_path / "both.pth", tmp_path / "averaged.pth"
    torch.save({"state_dict": plain, "state_dict_ema": averaged}, both)
    torch.save({"state_dict_ema": averaged}, alone)
    assert same(model, ziggurat.create_model("p2t_mini", pretrained=both))
    for path in (both, alone):
        other = ziggurat.create_model("p2t_mini", pretrained=path, use_ema=True)
        backbone = ziggurat.create_backbone("p2t_mini", pretrained=path, use_ema=True)
        assert same(other.backbone, backbone)
        assert torch.equal(other.state_dict()["head.fc.bias"], averaged["head.bias"])
    assert "averaged weights" in ziggurat.load_pretrained(model, both).summary()
    assert "averaged weights" not in ziggurat.load_pretrained(model, both, use_ema=True).summary()
    ziggurat.save_weights(model, tmp_path / "own.safetensors")
    for source in (False, tmp_path / "own.safetensors"):
        with pytest.raises(ZigguratError, match="use_ema"):
            ziggurat.create_model("p2t_mini", pretrained=source, use_ema=True)
        with pytest.raises(ZigguratError, match="use_ema"):
            ziggurat.create_backbone("p2t_mini", pretrained=source, use_ema=True)


def test_texts_of_the_command_line(
    official: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pretrained.source_of("true") is True
    assert pretrained.source_of("a.pth") == "a.pth"
    texts = ("true", "pvt_v2_b0.in1k.safetensors", "hf:user/name", "a.pth")
    assert [pretrained.is_path(text) for text in texts] == [False, False, False, True]
    Path("pvt_v2_b0.in1k.safetensors").touch()
    assert pretrained.is_path("pvt_v2_b0.in1k.safetensors")
