"""Measure contestants in settings: speed in alternating turns, then memory one by one."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from ziggurat.bench.machine import (
    Allocator,
    apply_allocator,
    describe_conditions,
    make_product,
)
from ziggurat.bench.memory import (
    MemoryRequest,
    check_memory_is_left,
    check_memory_is_measurable,
    describe_failure,
    measure_memory,
    predicted_memory,
)
from ziggurat.bench.parts import time_parts
from ziggurat.bench.results import Benchmark, Contestant, Result, Setting, only_failed
from ziggurat.bench.subjects import find_subject, is_peer
from ziggurat.bench.turns import WarmStep, take_turns, warm_up
from ziggurat.bench.work import (
    autocast_of,
    count_flops,
    make_images,
    make_ready,
    make_step,
    make_variant,
)
from ziggurat.errors import ZigguratError
from ziggurat.models.classifier import Classifier
from ziggurat.models.detector import Detector
from ziggurat.models.semantic_segmenter import SemanticSegmenter

SECONDS_BETWEEN_LINES = 5.0
SEED = 0
PRODUCT = Contestant("matrix product")
"""Takes its turns among the models, so that their share of the peak is of the same minutes."""


@dataclass(frozen=True)
class Conditions:
    """How a benchmark is run.

    Attributes:
        device: Where models run.
        rounds: Turns of each contestant in each setting.
        threads: Threads of the CPU; by default as many as PyTorch takes.
        memory_format: Order of the images' and weights' values in memory.
        allocator: How memory is handed out.
        is_speed_measured: Whether steps are timed.
        is_memory_measured: Whether the peak memory is measured.
    """

    device: torch.device
    rounds: int = 9
    threads: int | None = None
    memory_format: str = "channels_last"
    allocator: Allocator = "default"
    is_speed_measured: bool = True
    is_memory_measured: bool = True


def run_benchmark(
    contestants: Sequence[Contestant],
    settings: Sequence[Setting],
    conditions: Conditions,
    say: Callable[[str], None],
    against: Sequence[str] = (),
) -> Benchmark:
    """Measure every contestant in every setting.

    A contestant that fails in a setting, as those of one image size do, has the reason in its
    result; the others go on.

    Args:
        contestants: Who, in the order of their turns.
        settings: What they do, one comparison after the other.
        conditions: How it is run.
        say: Is told how far it is.
        against: Names among the contestants that the others are compared with.

    Raises:
        ZigguratError: If a name is unknown, if speed and memory cannot be measured here, or if
            not one contestant succeeded.
    """
    _check(contestants, settings, conditions)
    apply_allocator(conditions.allocator)
    if conditions.threads is not None:
        torch.set_num_threads(conditions.threads)
    results: list[Result] = []
    for setting in settings:
        compared = [
            _foresee(Result(contestant, setting), conditions, say) for contestant in contestants
        ]
        if conditions.is_speed_measured:
            compared = _measure_speed(compared, conditions, say)
        if conditions.is_memory_measured:
            _give_memory_back(conditions.device)
            compared = [_measure_memory(result, conditions, say) for result in compared]
        results += compared
    if only_failed(results):
        raise ZigguratError(f"nothing could be measured: {results[0].failure}")
    return Benchmark(
        conditions=describe_conditions(conditions.device, conditions.allocator),
        rounds=conditions.rounds,
        results=tuple(results),
        against=tuple(against),
    )


def _check(
    contestants: Sequence[Contestant], settings: Sequence[Setting], conditions: Conditions
) -> None:
    if conditions.rounds < 1:
        raise ZigguratError(f"a benchmark needs at least 1 round, got {conditions.rounds}")
    if conditions.threads is not None and conditions.threads < 1:
        raise ZigguratError(f"a benchmark needs at least 1 thread, got {conditions.threads}")
    if conditions.is_memory_measured:
        check_memory_is_measurable(conditions.device)
    for contestant in contestants:
        find_subject(contestant.name)
        if contestant.variant == "fast" and is_peer(contestant.name):
            raise ZigguratError(f"only models of ziggurat have a fast variant, got {contestant}")


def _foresee(result: Result, conditions: Conditions, say: Callable[[str], None]) -> Result:
    """Add what a Feature Pyramid Transformer will take, or that it is not left.

    The model is built without memory for that.
    """
    contestant, setting = result.contestant, result.setting
    if is_peer(contestant.name):
        return result
    try:
        with torch.device("meta"):
            model = find_subject(contestant.name)()
        predicted = predicted_memory(model, setting, conditions.device)
        if predicted is None:
            return result
        result = replace(result, predicted=predicted)
        say(
            f"the Feature Pyramid Transformer of {contestant} will take about "
            f"{predicted / 2**30:.2f} GiB: {setting}"
        )
        check_memory_is_left(predicted, conditions.device)
    except Exception as error:  # a network of timm may fail with anything
        return replace(result, failure=describe_failure(error))
    return result


def _measure_speed(
    results: Sequence[Result], conditions: Conditions, say: Callable[[str], None]
) -> list[Result]:
    """Warm all contestants of a setting up, then let those that work take turns."""
    device, setting = conditions.device, results[0].setting
    say(f"{setting}")
    prepared: list[Result] = []
    steps: dict[Contestant, WarmStep] = {}
    models: dict[Contestant, nn.Module] = {}
    for result in results:
        if result.failure is not None:
            prepared.append(result)
            continue
        say(f"  preparing {result.contestant}")
        try:
            ready, warm, model = _prepare(result, conditions)
        except Exception as error:  # a peer may fail with anything
            prepared.append(replace(result, failure=describe_failure(error)))
        else:
            prepared.append(ready)
            steps[result.contestant] = warm
            models[result.contestant] = model
    if not steps:
        return prepared
    multiply, product_flops = make_product(setting.dtype, device)
    steps[PRODUCT] = warm_up(multiply, device)
    turns = take_turns(steps, conditions.rounds, device, on_turn=_Progress(say))
    product = Result(PRODUCT, setting, flops=product_flops, turns=turns[PRODUCT])
    return [
        replace(
            result,
            turns=turns.get(result.contestant, ()),
            peak=product.flops_per_second,
            parts=_time_parts(result, models.get(result.contestant), conditions),
        )
        for result in prepared
    ]


def _time_parts(
    result: Result, model: nn.Module | None, conditions: Conditions
) -> dict[str, float]:
    """Time the parts of a prediction, where a model is known in parts."""
    if result.contestant.variant == "compiled" or result.setting.is_training:
        return {}
    if not isinstance(model, Classifier | Detector | SemanticSegmenter):
        return {}
    images = make_images(result.setting, conditions.device, conditions.memory_format)
    autocast = autocast_of(result.setting, conditions.device)
    return time_parts(model, images, conditions.rounds, autocast)


def _prepare(result: Result, conditions: Conditions) -> tuple[Result, WarmStep, nn.Module]:
    """Build a contestant and take its first steps."""
    device, setting, contestant = conditions.device, result.setting, result.contestant
    torch.manual_seed(SEED)  # the last step of a segmenter takes as long as its logits say
    model = find_subject(contestant.name)()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    images = make_ready(model, setting, device, conditions.memory_format)
    flops = count_flops(model, setting, images)
    variant = make_variant(model, contestant.variant, setting.dtype)
    warm = warm_up(make_step(variant, images, setting), device)
    ready = replace(result, parameters=parameters, flops=flops, preparation=warm.preparation)
    return ready, warm, variant


def _give_memory_back(device: torch.device) -> None:
    """Leave a GPU to the processes that measure memory, empty of what the speed was measured of."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def _measure_memory(result: Result, conditions: Conditions, say: Callable[[str], None]) -> Result:
    """Add the peak memory, unless the contestant is compiled or has failed already."""
    if result.failure is not None or result.contestant.variant == "compiled":
        return result
    say(f"  peak memory of {result.contestant}: {result.setting}")
    request = MemoryRequest(
        contestant=result.contestant,
        setting=result.setting,
        device=str(conditions.device),
        memory_format=conditions.memory_format,
        threads=torch.get_num_threads(),
        allocator=conditions.allocator,
    )
    try:
        return replace(result, memory=measure_memory(request))
    except ZigguratError as error:
        return replace(result, failure=f"peak memory: {error}")


class _Progress:
    """Says every few seconds how many turns are taken and how long the others will take."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.begin = self.said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.said < SECONDS_BETWEEN_LINES:
            return
        self.said = now
        left = (now - self.begin) / done * (total - done)
        self.say(f"  turn {done}/{total}, {left:.0f} s left of this comparison")
