"""Contestants are measured in settings; those that fail do not stop the others."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ziggurat.bench import machine, run, turns
from ziggurat.bench.memory import MemoryRequest
from ziggurat.bench.results import Benchmark, Contestant, Setting, Variant
from ziggurat.bench.run import Conditions, run_benchmark
from ziggurat.bench.subjects import find_subject
from ziggurat.errors import ZigguratError

SPEED = Conditions(torch.device("cpu"), rounds=2, is_memory_measured=False)
MEMORY = Conditions(torch.device("cpu"), rounds=2, is_speed_measured=False)
SMALL, LARGE = Setting("fp32", 2, (32, 32)), Setting("fp32", 1, (64, 32))


class OnlySmall(nn.Module):
    """Stands in for models of one image size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2] != 32:
            raise RuntimeError("only 32 pixels\nwhatever else it says")
        y: Tensor = self.conv(images)
        return y


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Callable[[], nn.Module]:
        return OnlySmall if name == "peer:small" else find_subject(name)

    monkeypatch.setattr(run, "find_subject", find)
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.001)
    monkeypatch.setitem(machine.PRODUCT_SIZE, "cpu", 64)


def measure(
    names: Sequence[str], settings: Sequence[Setting], conditions: Conditions
) -> tuple[Benchmark, list[str]]:
    said: list[str] = []
    contestants = [Contestant(name) for name in names]
    return run_benchmark(contestants, settings, conditions, said.append, against=names[-1:]), said


def test_speed(p2t_mini: str) -> None:
    benchmark, said = measure([p2t_mini, "peer:small"], [SMALL], SPEED)
    ours, peer = benchmark.results
    assert [len(result.turns) for result in benchmark.results] == [2, 2]
    assert peer.parameters == 4 * 3 + 4
    assert peer.flops == 2 * 2 * 32 * 32 * 12
    assert ours.peak == peer.peak and ours.peak is not None
    assert ours.share_of_peak is not None and ours.share_of_peak > 0
    assert ours.speed_against(peer) is not None
    assert ours.memory is None
    assert benchmark.against == ("peer:small",)
    assert said[0] == str(SMALL) and "preparing p2t_mini" in said[1]


def test_a_failure_stays_with_its_contestant_and_setting(p2t_mini: str) -> None:
    benchmark, _ = measure([p2t_mini, "peer:small"], [SMALL, LARGE], SPEED)
    assert [result.failure for result in benchmark.results] == [
        None,
        None,
        None,
        "RuntimeError: only 32 pixels",
    ]
    assert benchmark.results[2].turns and not benchmark.results[3].turns


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ZigguratError, match="nothing could be measured: RuntimeError: only 32"):
        measure(["peer:small"], [LARGE], SPEED)


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(request: MemoryRequest) -> int:
        if request.setting == LARGE:
            raise ZigguratError("too large")
        return request.setting.batch

    monkeypatch.setattr(run, "measure_memory", peak)
    benchmark, said = measure(["peer:small"], [SMALL, LARGE], MEMORY)
    assert [result.memory for result in benchmark.results] == [2, None]
    assert [result.failure for result in benchmark.results] == [None, "peak memory: too large"]
    assert not benchmark.results[0].turns
    assert f"  peak memory of peer:small: {SMALL}" in said


def test_speed_stays_where_only_the_memory_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(request: MemoryRequest) -> int:
        raise ZigguratError("too large")

    monkeypatch.setattr(run, "measure_memory", fail)
    both = Conditions(torch.device("cpu"), rounds=2)
    benchmark, _ = measure(["peer:small"], [SMALL], both)
    assert len(benchmark.results[0].turns) == 2
    assert benchmark.results[0].failure == "peak memory: too large"


@pytest.mark.parametrize(("device", "given_back"), [("cuda", 1), ("cpu", 0)])
def test_memory_of_a_gpu_is_given_back_before_others_are_measured(
    device: str, given_back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty"))

    def measured(request: object) -> int:
        calls.append("measure")
        return 7

    monkeypatch.setattr(run, "measure_memory", measured)
    monkeypatch.setattr(run, "describe_conditions", lambda device, allocator: {})
    monkeypatch.setattr(run, "check_memory_is_measurable", lambda device: None)
    measure(["peer:small"], [SMALL], replace(MEMORY, device=torch.device(device)))
    assert calls == ["empty"] * given_back + ["measure"]


def test_memory_of_compiled_models_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measure_memory", lambda request: 7)
    contestants = [Contestant("peer:small"), Contestant("peer:small", "compiled")]
    benchmark = run_benchmark(contestants, [SMALL], MEMORY, lambda line: None)
    assert [result.memory for result in benchmark.results] == [7, None]


@pytest.mark.parametrize(
    ("name", "variant", "message"),
    [
        ("p2t_tny", "eager", "did you mean 'p2t_tiny'"),
        ("timm:resnet18", "fast", r"have a fast variant, got timm:resnet18 \(fast\)"),
    ],
)
def test_contestants_are_checked_before_anything_is_measured(
    name: str, variant: Variant, message: str
) -> None:
    said: list[str] = []
    settings = [SMALL, Setting("fp32", 2, (32, 32), is_training=False)]
    with pytest.raises(ZigguratError, match=message):
        run_benchmark([Contestant(name, variant)], settings, SPEED, said.append)
    assert said == []


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (partial(Conditions, rounds=0), "at least 1 round, got 0"),
        (partial(Conditions, threads=0), "at least 1 thread, got 0"),
    ],
)
def test_impossible_numbers(conditions: Callable[..., Conditions], message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        measure(["peer:small"], [SMALL], conditions(torch.device("cpu")))


def test_devices_whose_memory_cannot_be_read() -> None:
    with pytest.raises(ZigguratError, match="peak memory can be read"):
        measure(["peer:small"], [SMALL], Conditions(torch.device("mps")))
