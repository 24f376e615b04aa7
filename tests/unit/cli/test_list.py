"""`ziggurat list` prints every model with its cost."""

import json

import pytest

from ziggurat.cli.main import main
from ziggurat.inference.cost import count_cost
from ziggurat.zoo import list_models


def test_cost_is_the_published_one() -> None:
    # Table 1 of the paper: 11.6 M parameters, 1.8 G multiply-accumulates.
    cost = count_cost("p2t_tiny")
    assert round(cost.parameters / 1e6, 1) == 11.6
    assert round(cost.macs / 1e9, 1) == 1.8
    assert cost.flops == pytest.approx(2 * cost.macs, abs=1)
    assert cost.image_size == (224, 224)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--task", "classification", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == list_models(task="classification")
    assert entries[0]["recipe"] == "p2t_tiny_300e_imagenet"
    assert "79.8" in entries[0]["published"]


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
