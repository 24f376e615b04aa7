"""`benchmarks/backbones.py`: its commands fit `ziggurat bench`, its goals are computed right."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from timm import list_models as list_timm_models
from torchvision.models import list_models as list_torchvision_models

import ziggurat.cli.bench
from ziggurat.bench.subjects import TRANSFORMERS_MODELS, find_subject
from ziggurat.cli.main import Parser

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "backbones.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("benchmarks_backbones", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def entry(name: str, speed: float | None, **figures: Any) -> dict[str, Any]:
    return {
        "name": name,
        "variant": "eager",
        "dtype": "fp32",
        "batch": 8,
        "image_size": [224, 224],
        "is_training": False,
        "seconds_per_step": [] if speed is None else [8 / speed],
        "images_per_second": speed,
        "spread": None,
        "flops_per_second": None if speed is None else 1e9 * speed,
        "peak_flops_per_second": 100e9,
        "share_of_peak": None if speed is None else speed / 100,
        "peak_memory_bytes": 2_000_000,
        "failure": None,
        **figures,
    }


def section(*results: dict[str, Any]) -> dict[str, Any]:
    conditions = {"device": "cpu", "threads": "2 of 2 cores"}
    return {"date": "2026-01-31", "rounds": 9, "conditions": conditions, "results": list(results)}


def test_every_section_is_a_command(script: ModuleType) -> None:
    for _, words in script.SECTIONS.values():
        parser = Parser(prog="ziggurat bench")
        ziggurat.cli.bench.add_arguments(parser)
        parser.parse_args([*words, "--rounds=3", "--threads=2", "--json"])


def test_every_name_is_known(script: ModuleType) -> None:
    known = {
        "timm": list_timm_models(),
        "torchvision": list_torchvision_models(),
        "transformers": TRANSFORMERS_MODELS,
    }
    for name in script.OURS:
        find_subject(name)
    for peer in script.PEERS:
        library, name = peer.split(":")
        assert name in known[library]


def test_goals_against_the_official_code_go_through_resnet(script: ModuleType) -> None:
    # There the official code was 18.1 / 18.9 times as fast as ResNet-50; here ours is 2 times.
    plain = entry("p2t_small", 10.0)
    fast = entry("p2t_small", 20.0, variant="fast")
    results = section(fast, plain, entry("torchvision:resnet50", 10.0))
    over_official, share = script.find_goals({"batch_8": results})
    assert over_official.reached == pytest.approx(2 / (18.1 / 18.9))
    assert over_official.wanted == 1.35 and over_official.is_met
    assert share.reached == 0.2 and share.wanted == 0.55 and not share.is_met


def test_goals_against_rivals(script: ModuleType) -> None:
    results = section(
        entry("pvt_v2_b2", 12.0, peak_memory_bytes=70),
        entry("timm:pvt_v2_b2", 10.0, peak_memory_bytes=100),
    )
    speed, memory = script.find_goals({"training": results})
    assert speed.reached == pytest.approx(1.2) and not speed.is_met
    assert memory.reached == 0.7 and memory.is_limit and memory.is_met


def test_what_failed_has_no_goal(script: ModuleType) -> None:
    failed = entry("timm:pvt_v2_b2", None, failure="RuntimeError: no")
    assert script.find_goals({"training": section(entry("pvt_v2_b2", 12.0), failed)}) == []


def test_page(script: ModuleType) -> None:
    failed = entry("timm:pvt_v2_b2", None, peak_memory_bytes=None, failure="RuntimeError: no")
    page = script.describe({"batch_8": section(entry("pvt_v2_b2", 12.0), failed)})
    assert "## Inference, batch 8 at 224, fp32" in page
    assert "2026-01-31, 9 rounds. device: cpu; threads: 2 of 2 cores." in page
    assert "inference, fp32, batch 8, 224x224; peak 100 GFLOP/s" in page
    assert "| pvt_v2_b2 | 12.00 | – | 12 | 12 | 2 |" in page
    assert "| timm:pvt_v2_b2 | – | – | – | – | – |" in page
    assert "timm:pvt_v2_b2: RuntimeError: no" in page
    assert "| batch_8: share of the peak, pvt_v2_b2 | >= 0.55 | 0.12 | **missed** |" in page
    assert "## Training" not in page


def test_memory_over_sizes_is_one_table(script: ModuleType) -> None:
    sizes = ((224, 40), (1024, 100), (2048, 410))
    results = [
        entry("p2t_small", None, image_size=[side, side], peak_memory_bytes=megabytes * 10**6)
        for side, megabytes in sizes
    ]
    page = script.describe({"sizes": section(*results)})
    assert "| model | MB at 224 x 224 | MB at 1024 x 1024 | MB at 2048 x 2048 | last" in page
    assert "| p2t_small | 40 | 100 | 410 | 4.1 |" in page
