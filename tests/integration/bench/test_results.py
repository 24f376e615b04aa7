"""What is computed from the turns."""

import json

import pytest

from ziggurat.bench.results import Benchmark, Contestant, Setting, only_failed


def test_figures_are_medians(benchmark: Benchmark) -> None:
    ours = benchmark.results[0]
    assert ours.seconds == 3.0
    assert ours.images_per_second == pytest.approx(8 / 3)
    assert ours.flops_per_second == pytest.approx(400 / 3)
    assert ours.share_of_peak == pytest.approx(400 / 3 / 200)
    # Quartiles of 2, 3, 4 are 2.5 and 3.5.
    assert ours.spread == pytest.approx(0.5 / 3)


def test_what_was_not_measured_stays_empty(benchmark: Benchmark) -> None:
    broken = benchmark.results[3]
    assert broken.images_per_second is None
    assert broken.spread is None
    assert broken.share_of_peak is None
    assert broken.speed_against(benchmark.results[0]) is None


def test_speeds_are_compared_round_by_round(benchmark: Benchmark) -> None:
    ours, _, theirs, _ = benchmark.results
    # Ratios 2, 4 and 2; the ratio of the medians would be 2 as well, of the means 26 / 9.
    assert ours.speed_against(theirs) == 2.0
    assert theirs.speed_against(ours) == 0.5
    assert ours.speed_against(ours) == 1.0


def test_reference_is_the_same_variant_where_there_is_one(benchmark: Benchmark) -> None:
    ours, compiled, theirs, _ = benchmark.results
    assert benchmark.reference("ours", compiled) is compiled
    assert benchmark.reference("timm:theirs", compiled) is theirs
    assert benchmark.reference("ours", theirs) is ours


def test_json_has_every_figure(benchmark: Benchmark) -> None:
    content = json.loads(json.dumps(benchmark.to_json()))
    ours, compiled, _, broken = content["results"]
    assert content["conditions"] == {"device": "cpu"}
    assert content["rounds"] == 3
    assert ours["name"] == "ours" and compiled["variant"] == "compiled"
    assert ours["image_size"] == [224, 320]
    assert ours["seconds_per_step"] == [2.0, 4.0, 3.0]
    assert ours["peak_memory_bytes"] == 3_000_000
    assert ours["speed_against"] == {"timm:theirs": 2.0}
    assert compiled["speed_against"] == {"timm:theirs": 6.0}
    assert broken["failure"] == "RuntimeError: no"
    assert broken["speed_against"] == {"timm:theirs": None}


def test_words() -> None:
    assert str(Contestant("a")) == "a"
    assert str(Contestant("a", "fast")) == "a (fast)"
    assert str(Setting("bf16", 2, (64, 96), is_training=True)) == (
        "training step, bf16, batch 2, 64x96"
    )


def test_only_failed(benchmark: Benchmark) -> None:
    assert not only_failed(benchmark.results)
    assert only_failed(benchmark.results[3:])
