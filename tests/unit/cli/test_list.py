"""`ziggurat list` prints every model with its cost, and every published file."""

import json
from dataclasses import replace

import pytest

import ziggurat.cli.list
from ziggurat.cards import MODELS
from ziggurat.cli.main import main
from ziggurat.inference.cost import Cost, count_cost
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


@pytest.mark.parametrize("words", [["list"], ["list", "--weights"]])
def test_unknown_task(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--task", "detecion"]) == 1
    assert "did you mean 'detection'?" in capsys.readouterr().err
