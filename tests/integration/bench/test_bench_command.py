"""`ziggurat bench`: what is asked for, and what is printed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

import ziggurat.cli.bench
from ziggurat.bench.results import Benchmark, Contestant, Setting, Variant
from ziggurat.bench.run import Conditions
from ziggurat.cli.main import main

VARIANTS: tuple[Variant, ...] = ("eager", "compiled")


class Recorder:
    """Stands in for `run_benchmark`: notes what it was asked for, returns known results."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark

    def __call__(
        self,
        contestants: Sequence[Contestant],
        settings: Sequence[Setting],
        conditions: Conditions,
        say: Callable[[str], None],
        against: Sequence[str],
    ) -> Benchmark:
        self.contestants, self.settings = contestants, settings
        self.conditions, self.against = conditions, against
        say("half done")
        return self.benchmark


@pytest.fixture
def recorder(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Measure nothing."""
    recorder = Recorder(benchmark)
    monkeypatch.setattr(ziggurat.cli.bench, "run_benchmark", recorder)
    return recorder


def test_defaults(recorder: Recorder) -> None:
    assert main(["bench", "p2t_tiny"]) == 0
    assert recorder.contestants == [Contestant("p2t_tiny")]
    assert recorder.settings == [Setting("fp32", 8, (224, 224))]
    assert recorder.against == []
    assert recorder.conditions == Conditions(torch.device("cpu"))


def test_every_option(recorder: Recorder) -> None:
    words = "p2t_tiny timm:a --against timm:a,timm:b --batch 1,8 --size 64,32x48 --dtype fp32,bf16"
    more = "--train --compile --measure speed --rounds 3 --threads 2 --device cpu"
    last = "--memory_format contiguous --allocator keep"
    assert main(["bench", *words.split(), *more.split(), *last.split()]) == 0
    assert recorder.contestants == [
        Contestant(name, variant)
        for name in ("p2t_tiny", "timm:a", "timm:b")
        for variant in VARIANTS
    ]
    assert len(recorder.settings) == 8
    assert recorder.settings[1] == Setting("fp32", 1, (32, 48), is_training=True)
    assert recorder.settings[-1] == Setting("bf16", 8, (32, 48), is_training=True)
    assert recorder.against == ["timm:a", "timm:b"]
    assert recorder.conditions == Conditions(
        torch.device("cpu"),
        rounds=3,
        threads=2,
        memory_format="contiguous",
        allocator="keep",
        is_memory_measured=False,
    )


def test_only_ours_have_a_fast_variant(recorder: Recorder) -> None:
    assert main(["bench", "p2t_tiny", "--against", "timm:a", "--fast"]) == 0
    assert recorder.contestants == [
        Contestant("p2t_tiny"),
        Contestant("p2t_tiny", "fast"),
        Contestant("timm:a"),
    ]


@pytest.mark.usefixtures("recorder")
def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "p2t_tiny"]) == 0
    printed = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in printed.out.splitlines() if line.strip()}
    assert "inference, fp32, batch 8, 224x320; peak 0 GFLOP/s" in printed.out
    # 8 / 3 images a second; 3 MB; twice as fast as the reference.
    assert "2.67" in printed.out and "16.7" in printed.out
    assert rows["timm:theirs"][1] == "1.33" and rows["timm:theirs"][-1] == "1.00"
    assert "ours (compiled)" in printed.out
    assert "timm:broken: RuntimeError: no" in printed.out
    assert "device: cpu" in printed.out
    assert printed.err == "half done\n"


def test_numbers_have_three_digits(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    first = recorder.benchmark.results[0]
    fast = [replace(first, turns=(seconds,)) for seconds in (8 / 12345, 8 / 123.4, 8 / 0.5)]
    recorder.benchmark = replace(recorder.benchmark, results=tuple(fast), against=())
    assert main(["bench", "p2t_tiny"]) == 0
    printed = capsys.readouterr().out
    assert all(f" {number} " in printed for number in ("12345", "123", "0.500"))


@pytest.mark.usefixtures("recorder")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "p2t_tiny", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["results"][0]["images_per_second"] == pytest.approx(8 / 3)
    assert printed.err == "half done\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "required: NAME"),
        ("p2t_tiny --batch 0", "--batch needs numbers of at least 1, as 1,8, got '0'"),
        ("p2t_tiny --batch x", "--batch needs numbers of at least 1, as 1,8, got 'x'"),
        ("p2t_tiny --batch ,", "--batch needs at least one"),
        ("p2t_tiny --size ,", "--size needs at least one"),
        ("p2t_tiny --size big", "--size needs 224 or HEIGHTxWIDTH as 512x672, got 'big'"),
        ("p2t_tiny --size 512x", "got '512x'"),
        ("p2t_tiny --size 0", "got '0'"),
        ("p2t_tiny --dtype fp23", "unknown dtype 'fp23'; did you mean 'fp32'?"),
        ("p2t_tiny --dtype ,", "--dtype needs at least one"),
        ("p2t_tiny --measure sped", "unknown measure 'sped'; did you mean 'speed'?"),
        ("p2t_tiny --memory_format nhwc", "unknown memory format 'nhwc'"),
        ("p2t_tiny --allocator kep", "unknown allocator 'kep'; did you mean 'keep'?"),
        ("p2t_tiny --device tpu", "no device 'tpu'"),
        ("p2t_tny --measure speed", "did you mean 'p2t_tiny'?"),
        ("p2t_tiny --against tim:x --measure speed", "did you mean 'timm'?"),
        ("p2t_tiny --size 4 --measure speed --against gpvit_lx", "did you mean 'gpvit_l"),
    ],
)
def test_wrong_words(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words.split()]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_measures_for_real(p2t_mini: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{p2t_mini} --batch 1 --size 32 --rounds 1 --measure speed --json".split()
    assert main(["bench", *words]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["results"]
    assert entry["images_per_second"] > 0 and entry["flops"] > 1e5
