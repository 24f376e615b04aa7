"""Peak memory of one model, in a process of its own."""

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest
import torch

import ziggurat
from ziggurat.bench import memory, run
from ziggurat.bench.memory import (
    MemoryRequest,
    check_memory_is_left,
    check_memory_is_measurable,
    describe_failure,
    measure_memory,
    predicted_memory,
)
from ziggurat.bench.results import Contestant, Setting
from ziggurat.errors import ZigguratError
from ziggurat.necks.fpt_memory import BUFFERS, MAPS_AT_A_TIME

Work = Callable[[MemoryRequest], int | str]
REQUEST = MemoryRequest(
    contestant=Contestant("p2t_mini"),
    setting=Setting("fp32", 1, (64, 64)),
    device="cpu",
    memory_format="channels_last",
    threads=1,
    allocator="default",
)


class Here:
    """Stands in for the other process, which would take seconds to start."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Work, request: MemoryRequest) -> Future[int | str]:
        future: Future[int | str] = Future()
        future.set_result(work(request))
        return future


class Killed(Here):
    """A process that the system killed."""

    def submit(self, work: Work, request: MemoryRequest) -> Future[int | str]:
        future: Future[int | str] = Future()
        future.set_exception(BrokenProcessPool())
        return future


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)


@pytest.mark.usefixtures("_here")
def test_a_model_that_fails_is_a_sentence() -> None:
    request = replace(REQUEST, contestant=Contestant("pvt_v2_b0"))
    request = replace(request, setting=Setting("fp32", 1, (16, 16)))
    with pytest.raises(ZigguratError, match="at least 29 x 29 pixels"):
        measure_memory(request)


def test_a_process_that_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ProcessPoolExecutor", Killed)
    with pytest.raises(ZigguratError, match="p2t_mini was killed at inference, fp32, batch 1"):
        measure_memory(REQUEST)


def test_devices_without_a_peak() -> None:
    with pytest.raises(ZigguratError, match="--measure speed"):
        check_memory_is_measurable(torch.device("mps"))


def test_failures_are_one_line() -> None:
    assert describe_failure(ZigguratError("too small")) == "too small"
    assert describe_failure(RuntimeError("first\nsecond")) == "RuntimeError: first"
    assert describe_failure(AssertionError()) == "AssertionError"


@pytest.mark.slow  # a fresh process imports PyTorch
def test_in_a_process_of_its_own() -> None:
    request = replace(REQUEST, contestant=Contestant("p2t_tiny"))
    peak = measure_memory(request)
    assert 11.6e6 * 4 < peak < 11.6e6 * 4 + 100e6


@pytest.mark.slow
def test_larger_images_take_more() -> None:
    request = replace(REQUEST, contestant=Contestant("p2t_tiny"))
    small = measure_memory(request)
    large = measure_memory(replace(request, setting=Setting("fp32", 4, (512, 512))))
    assert large > small + 4 * 3 * 512 * 512 * 4  # the images alone


def test_memory_of_a_feature_pyramid_transformer_is_predicted() -> None:
    cpu = torch.device("cpu")
    with torch.device("meta"):
        plain = ziggurat.create_model("retinanet_pvt_v2_b0")
        with_fpt = ziggurat.create_model("retinanet", backbone="pvt_v2_b0", neck="fpt")
    inference = Setting("fp32", 2, (96, 130))
    assert predicted_memory(plain, inference, cpu) is None
    predicted = predicted_memory(with_fpt, inference, cpu)
    cells = 12 * 17 + 6 * 9 + 3 * 5  # strides 8, 16, 32
    assert predicted == BUFFERS + 4 * 2 * 256 * (cells + MAPS_AT_A_TIME * 12 * 17)
    learning = Setting("fp32", 2, (96, 130), is_training=True)
    training = predicted_memory(with_fpt, learning, cpu)
    assert training is not None
    assert training > predicted
    on_gpu = predicted_memory(with_fpt, inference, torch.device("cuda"))
    assert on_gpu is not None
    assert on_gpu > predicted


def test_what_cannot_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda _: 2**30)
    check_memory_is_left(2**30, torch.device("cpu"))
    with pytest.raises(ZigguratError, match="needs about 2.0 GiB, and 1.0 GiB are left"):
        check_memory_is_left(2**31, torch.device("cpu"))
    monkeypatch.setattr(memory, "available_bytes", lambda _: None)
    check_memory_is_left(2**31, torch.device("cpu"))


@pytest.mark.parametrize("is_speed_measured", [True, False])
def test_a_benchmark_refuses_before_it_runs(
    is_speed_measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda _: 2**20)
    monkeypatch.setattr(run, "make_ready", None)
    monkeypatch.setattr(run, "measure_memory", None)
    setting, said = Setting("fp32", 1, (64, 64)), list[str]()
    conditions = run.Conditions(
        torch.device("cpu"),
        is_speed_measured=is_speed_measured,
        is_memory_measured=not is_speed_measured,
    )
    with pytest.raises(ZigguratError, match="needs about 0.3 GiB, and 0.0 GiB are left"):
        run.run_benchmark(
            [Contestant("retinanet_fpt_gpvit_l1")], [setting], conditions, said.append
        )
    assert said[0] == (
        "the Feature Pyramid Transformer of retinanet_fpt_gpvit_l1 will take about 0.25 GiB: "
        f"{setting}"
    )


def test_a_benchmark_of_memory_says_what_was_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measure_memory", lambda request: 7)
    names = ("retinanet_fpt_gpvit_l1", "p2t_tiny")
    conditions = run.Conditions(torch.device("cpu"), is_speed_measured=False)
    benchmark = run.run_benchmark(
        [Contestant(name) for name in names],
        [Setting("fp32", 1, (64, 64))],
        conditions,
        lambda _: None,
    )
    with_fpt, without = benchmark.to_json()["results"]
    assert with_fpt["predicted_transformer_bytes"] > BUFFERS
    assert without["predicted_transformer_bytes"] is None
    assert with_fpt["peak_memory_bytes"] == without["peak_memory_bytes"] == 7
