"""`benchmarks/detection.py`: its commands fit `ziggurat bench`, its page has every figure."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import ziggurat.cli.bench
from ziggurat.bench.subjects import find_subject
from ziggurat.cli.main import Parser

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "detection.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("benchmarks_detection", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_section_is_a_command_of_known_names(script: ModuleType) -> None:
    for _, words in script.SECTIONS.values():
        parser = Parser(prog="ziggurat bench")
        ziggurat.cli.bench.add_arguments(parser)
        arguments = parser.parse_args([*words, "--rounds=2"])
        for name in [*arguments.names, *([arguments.against] if arguments.against else [])]:
            find_subject(name)


def test_ways_agree(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "SIZE", (96, 128))
    ours, plain = script.pasting().values()
    assert torch.equal(ours().full(), torch.stack(plain()))
    ours, plain = script.decoding().values()
    found = ours()[0]
    assert len(found) > 0
    torch.testing.assert_close(found.scores, plain()[: len(found), 4])


def test_page(script: ModuleType) -> None:
    entry: dict[str, Any] = {
        "name": "retinanet_resnet50",
        "variant": "fast",
        "images_per_second": 0.5,
        "share_of_peak": 0.71,
        "peak_memory_bytes": 2e9,
        "speed_against": {"torchvision:retinanet_resnet50_fpn": 1.25},
        "seconds_of_parts": {"backbone": 1.5, "post-processing": 0.02},
        "failure": None,
    }
    section = {
        "date": "today",
        "rounds": 2,
        "conditions": {"device": "cpu"},
        "against": ["torchvision:retinanet_resnet50_fpn"],
        "results": [entry, entry | {"seconds_of_parts": {}, "failure": "too large"}],
    }
    part = {
        "date": "today",
        "rounds": 2,
        "conditions": {"device": "cpu"},
        "seconds": {"ziggurat": [0.1, 0.1], "plain": [0.3, 0.4]},
    }
    page = script.describe({"retinanet": section, "pasting": part})
    assert "| retinanet_resnet50 (fast) | 0.500 | 71 | 2000 | 1.25 |" in page
    assert "| retinanet_resnet50 (fast) | post-processing | 20.0 |" in page
    assert "retinanet_resnet50 (fast): too large" in page
    assert "| plain | 350.0 | 3.50 |" in page
