"""`ziggurat list` prints every model with its cost."""

import json
from dataclasses import replace

import pytest

import ziggurat.cli.list
from ziggurat.cards import MODELS
from ziggurat.cli.main import main
from ziggurat.inference.cost import Cost, count_cost
from ziggurat.zoo import list_models


@pytest.fixture(scope="module")
def cost() -> Cost:
    """The cost of one model, counted once: counting all at full size takes many seconds."""
    return count_cost("p2t_tiny")


@pytest.fixture
def _counted(cost: Cost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command find that cost for every model, at the size of each."""

    def count(name: str) -> Cost:
        return replace(cost, image_size=MODELS[name].input_size)

    monkeypatch.setattr(ziggurat.cli.list, "count_cost", count)


def test_cost_is_the_published_one(cost: Cost) -> None:
    # Table 1 of the paper: 11.6 M parameters, 1.8 G multiply-accumulates.
    assert round(cost.parameters / 1e6, 1) == 11.6
    assert round(cost.macs / 1e9, 1) == 1.8
    assert cost.flops == pytest.approx(2 * cost.macs, abs=1)
    assert cost.image_size == (224, 224)


@pytest.mark.slow  # four models, two of them at 800 x 1280
@pytest.mark.parametrize("name", MODELS)
def test_cost_of_every_model(name: str) -> None:
    cost = count_cost(name)
    assert cost.image_size == MODELS[name].input_size
    assert cost.flops > cost.parameters > 1e7


@pytest.mark.usefixtures("_counted")
def test_json(capsys: pytest.CaptureFixture[str], cost: Cost) -> None:
    assert main(["list", "--task", "classification", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == list_models(task="classification")
    assert entries[0]["recipe"] == "p2t_tiny_300e_imagenet"
    assert "79.8" in entries[0]["published"]
    assert entries[0]["macs"] == cost.macs


@pytest.mark.usefixtures("_counted")
def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for name in list_models():
        assert name in text
    assert "11.6" in text
    assert "800x1280" in text


def test_unknown_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--task", "detecion"]) == 1
    assert "did you mean 'detection'?" in capsys.readouterr().err
