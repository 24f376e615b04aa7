"""`ziggurat list` prints every model with its cost, and every published file."""

import json
from dataclasses import replace

import pytest

import ziggurat
import ziggurat.cli.list
import ziggurat.inference.recipes
from ziggurat.cards import MODELS
from ziggurat.cli.main import main
from ziggurat.config import list_recipes
from ziggurat.config.files import load_run, recipe_path
from ziggurat.inference.cost import Cost, count_cost
from ziggurat.inference.recipes import describe_recipe
from ziggurat.systems import SYSTEMS
from ziggurat.weights.catalogue import FILES
from ziggurat.zoo import list_models


@pytest.fixture(scope="module")
def cost() -> Cost:
    """The cost of one model, counted once: all of them are counted in test_cards.py."""
    return count_cost("p2t_tiny")


@pytest.fixture
def _counted(cost: Cost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command find that cost for every model, at the size of each."""

    def count(name: str) -> Cost:
        return replace(cost, image_size=MODELS[name].input_size)

    monkeypatch.setattr(ziggurat.cli.list, "count_cost", count)


@pytest.mark.usefixtures("_counted")
def test_json(capsys: pytest.CaptureFixture[str], cost: Cost) -> None:
    assert main(["list", "--task", "classification", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(entries) == list_models(task="classification")
    entry = entries["p2t_tiny"]
    assert entry["recipes"] == ["p2t_tiny_300e_imagenet"]
    assert "79.8" in entry["published"]
    assert entry["macs"] == cost.macs
    assert (entry["published_parameters"], entry["published_macs"]) == (11.6, 1.8)


@pytest.mark.usefixtures("_counted")
def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for name in list_models():
        assert name in text
    assert "11.6" in text
    assert "800x1280" in text
    assert "p2t_small is published with 24.1 M parameters and 3.7 G MACs: the table cuts" in text
    assert "gpvit_l1 is published with 9.3 M parameters: the table counts the backbone" in text
    for system in SYSTEMS:
        assert f"{system.removesuffix('_cityscapes')}_BACKBONE" in text
    assert "resnet50_gn, " in text and "timm:NAME" in text


def test_weights_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--weights", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(entries) == set(FILES)
    entry = entries["pvt_v2_b0.pth"]
    assert entry["url"].endswith("/pvt_v2_b0.pth")
    assert entry["metrics"] == {"top1": 70.5}
    assert entry["licence"] == "Apache-2.0"
    assert entry["is_buildable"] is True
    assert entry["size"] is None
    assert "with a browser" in entries["p2t_tiny.pth"]["how_to_get"]


def test_weights_of_a_task_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--weights", "--task", "semantic_segmentation"]) == 0
    text = capsys.readouterr().out
    expected = [file for file in FILES.values() if file.task == "semantic_segmentation"]
    assert all(file.name in text for file in expected)
    assert "pvt_tiny.pth" not in text
    assert f"{len(expected)} files, 11 of them downloaded" in text
    assert "upernet_gpvit_l1" in text and "(upernet_gpvit_l1)" not in text


def test_recipes_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--recipes", "--name", "topformer_*", "--json"]) == 0
    entries = {entry["recipe"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(entries) == [name for name in list_recipes() if name.startswith("topformer_")]
    assert entries["topformer_seg_tiny_160k_4x8_ade20k"] == {
        "recipe": "topformer_seg_tiny_160k_4x8_ade20k",
        "task": "semantic_segmentation",
        "model": "topformer_seg_tiny",
        "published": "34.6 mIoU, ADE20K val",
        "source": MODELS["topformer_seg_tiny"].source,
        "parameters": 1_389_654,
        "epochs": None,
        "steps": 160_000,
        "images_per_step": 32,
        "devices": 8,
        "data": "ADE20K",
        "backbone_weights": "topformer_tiny.pth",
        "command": "ziggurat train topformer_seg_tiny_160k_4x8_ade20k --data.root DIR "
        "--model.backbone_weights topformer_tiny.pth",
    }
    base = entries["topformer_base_300e_paddlevit_imagenet"]
    assert base["published"] == "74.2 % top-1, ImageNet-1k val, by PaddleViT"
    assert (base["epochs"], base["images_per_step"], base["data"]) == (300, 2048, "ImageNet-1k")
    from_scratch = entries["topformer_seg_tiny_from_scratch"]
    assert from_scratch["published"] == ""
    assert from_scratch["backbone_weights"] is None
    assert from_scratch["command"].endswith("--data.root DIR")
    assert entries["topformer_seg_base_80k_pascal_context"]["data"] == "Pascal Context, 60 classes"


def test_every_recipe_is_listed_with_its_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ziggurat.inference.recipes, "_count_parameters", lambda *parts: 1_000_000)
    assert main(["list", "--recipes"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    for name in list_recipes():
        (line,) = (line for line in lines if line.split()[:1] == [name])
    (line,) = (line for line in lines if line.split()[:1] == ["mask_rcnn_gpvit_l1_3x_coco"])
    assert "50.2 box AP, 44.3 mask AP, COCO val2017" in line
    assert "36 epochs x 32" in line and " 1.0 " in line
    below = lines[lines.index(line) + 1]
    assert below.split() == ["--model.backbone_weights", "gpvit_l1_in1k_300e.pth"]
    assert f"{len(list_recipes())} recipes" in text


def test_recipes_can_be_copied_from_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ziggurat.inference.recipes, "_count_parameters", lambda *parts: 1)
    monkeypatch.setattr(ziggurat.cli.list, "PIPED_WIDTH", 100)
    assert main(["list", "--recipes"]) == 0
    text = capsys.readouterr().out
    assert set(list_recipes()) <= set(text.split())
    assert "--model.backbone_weights resnet50-0676ba61.pth " in text


def test_every_published_run_of_a_backbone_says_its_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A recipe that needs weights names a file of the catalogue, which `doctor` asks for, too."""
    monkeypatch.setattr(ziggurat.inference.recipes, "_count_parameters", lambda *parts: 1)
    for name in list_recipes():
        has_weights = "model.backbone_weights" in recipe_path(name).read_text()
        weights = describe_recipe(name).backbone_weights
        assert (weights is not None) == has_weights, name
        assert weights is None or weights in FILES, name


def test_recipes_of_a_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ziggurat.inference.recipes, "_count_parameters", lambda *parts: 1)
    assert main(["list", "--recipes", "--task", "detection", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert entries and {entry["task"] for entry in entries} == {"detection"}
    assert {entry["recipe"].split("_")[0] for entry in entries} == {
        *("atss", "detr", "faster", "gfl", "retinanet", "sparse")
    }


@pytest.mark.usefixtures("_counted")
def test_names_like_a_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--name", "pvt_v2_b?", "--json"]) == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert names == [f"pvt_v2_b{number}" for number in range(6)]
    assert main(["list", "--weights", "--name", "pvt_v2_b0*", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "pvt_v2_b0.pth"


def test_a_model_that_nobody_has_published(capsys: pytest.CaptureFixture[str]) -> None:
    name = "segformer_timm:resnet18"
    assert main(["list", "--name", name, "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["name"], entry["task"]) == (name, "semantic_segmentation")
    assert (entry["image_size"], entry["published"], entry["recipes"]) == ([512, 512], "", [])
    assert entry["macs"] > 1e9
    assert main(["list", "--name", name, "--task", "detection"]) == 1
    assert f"no name is like {name!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "p2t_tny"], "no name is like 'p2t_tny'; did you mean 'p2t_tiny'?"),
        (["--recipes", "--name", "xyz"], "no name is like 'xyz'; use * for any part"),
        (["--recipes", "--weights"], "give --weights or --recipes, not both"),
    ],
)
def test_what_cannot_be_listed(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", *words]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["list"], ["list", "--weights"], ["list", "--recipes"]])
def test_unknown_task(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--task", "detecion"]) == 1
    assert "did you mean 'detection'?" in capsys.readouterr().err


def test_parameters_are_those_of_the_recipe() -> None:
    wanted = load_run("retinanet_p2t_tiny_from_scratch", ["--data.root=DIR"]).model
    assert wanted.head_channels is not None
    model = ziggurat.create_model(
        wanted.name, head_channels=wanted.head_channels, head_depth=wanted.head_depth
    )
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert describe_recipe("retinanet_p2t_tiny_from_scratch").parameters == counted
