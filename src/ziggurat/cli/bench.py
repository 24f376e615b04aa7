"""`ziggurat bench NAME...`: speed and memory on this machine, beside its peak and other libraries.

Models take turns (A B C A B C ...), so that what disturbs the machine disturbs all of them alike.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import get_args

from rich import box
from rich.table import Table

from ziggurat.bench.machine import Allocator
from ziggurat.bench.results import Benchmark, Contestant, Dtype, Result, Setting, Variant
from ziggurat.bench.run import Conditions, run_benchmark
from ziggurat.bench.subjects import is_peer
from ziggurat.bench.work import MEMORY_FORMATS
from ziggurat.cli.console import table_console
from ziggurat.errors import ZigguratError, check_known
from ziggurat.inference.forward import choose_device
from ziggurat.types import ImageSize

MEASURES = ("speed", "memory")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="model or backbone (see `ziggurat list`), or timm:NAME, torchvision:NAME, "
        "transformers:NAME",
    )
    parser.add_argument(
        "--against",
        metavar="NAMES",
        help="names that the others are compared with, separated by commas",
    )
    parser.add_argument("--batch", default="8", metavar="N,...", help="images a step (8)")
    parser.add_argument(
        "--size", default="224", metavar="S,...", help="pixels: 224, or HEIGHTxWIDTH: 512x672 (224)"
    )
    parser.add_argument("--dtype", default="fp32", metavar="D,...", help="fp32 and bf16 (fp32)")
    parser.add_argument(
        "--train",
        action="store_true",
        help="measure a training step (forward, backward, AdamW) instead of inference",
    )
    parser.add_argument(
        "--compile", action="store_true", help="measure models through torch.compile as well"
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="measure our models through optimize_for_inference or optimize_for_training as well",
    )
    parser.add_argument(
        "--measure", default="speed,memory", metavar="M,...", help="speed, memory (both)"
    )
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="turns of each (9)")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of the CPU; by default those of PyTorch"
    )
    parser.add_argument(
        "--device", default="auto", help="auto (the default), cpu, cuda, cuda:<number> or mps"
    )
    parser.add_argument(
        "--memory_format",
        default="channels_last",
        metavar="F",
        help="order of images and weights in memory: channels_last (the default) or contiguous",
    )
    parser.add_argument(
        "--allocator",
        default="default",
        metavar="A",
        help="default, or keep: glibc keeps freed memory instead of returning large buffers",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    against = [] if args.against is None else _words(args.against, "against")
    names = dict.fromkeys([*args.names, *against])
    benchmark = run_benchmark(
        [contestant for name in names for contestant in _variants(name, args.compile, args.fast)],
        [
            Setting(dtype, batch, size, is_training=args.train)  # type: ignore[arg-type]
            for dtype in _known("dtype", args.dtype, get_args(Dtype))
            for batch in map(_parse_batch, _words(args.batch, "batch"))
            for size in map(_parse_size, _words(args.size, "size"))
        ],
        _conditions(args),
        lambda line: print(line, file=sys.stderr, flush=True),
        against,
    )
    if args.json:
        print(json.dumps(benchmark.to_json(), indent=2))
        return
    console = table_console(piped_width=200)
    for setting in benchmark.settings:
        console.print(_table(benchmark, setting))
        parted = [result for result in benchmark.of(setting) if result.parts]
        if parted:
            console.print(_parts_table(parted))
        for result in benchmark.of(setting):
            if result.failure is not None:
                failure = f"{result.contestant}: {result.failure}"
                console.print(failure, style="red", markup=False, soft_wrap=True)
    for name, value in benchmark.conditions.items():
        console.print(f"{name}: {value}", markup=False, style="dim", highlight=False)


def _variants(name: str, is_compiled: bool, is_fast: bool) -> list[Contestant]:
    chosen: list[Variant] = ["eager"]
    if is_compiled:
        chosen.append("compiled")
    if is_fast and not is_peer(name):
        chosen.append("fast")
    return [Contestant(name, variant) for variant in chosen]


def _conditions(args: argparse.Namespace) -> Conditions:
    measures = _known("measure", args.measure, MEASURES)
    check_known("memory format", args.memory_format, MEMORY_FORMATS)
    check_known("allocator", args.allocator, get_args(Allocator))
    return Conditions(
        device=choose_device(args.device),
        rounds=args.rounds,
        threads=args.threads,
        memory_format=args.memory_format,
        allocator=args.allocator,
        is_speed_measured="speed" in measures,
        is_memory_measured="memory" in measures,
    )


def _words(text: str, option: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ZigguratError(f"--{option} needs at least one value, got {text!r}")
    return words


def _known(option: str, text: str, known: Sequence[str]) -> list[str]:
    """Split a list, each of whose words must be known."""
    words = _words(text, option)
    for word in words:
        check_known(option, word, known)
    return words


def _parse_batch(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise ZigguratError(f"--batch needs numbers of at least 1, as 1,8, got {word!r}")
    return int(word)


def _parse_size(word: str) -> ImageSize:
    height, separator, width = word.partition("x")
    sides = (height, width) if separator else (height, height)
    if not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ZigguratError(f"--size needs 224 or HEIGHTxWIDTH as 512x672, got {word!r}")
    return int(sides[0]), int(sides[1])


def _table(benchmark: Benchmark, setting: Setting) -> Table:
    results = benchmark.of(setting)
    peak = next((result.peak for result in results if result.peak is not None), None)
    title = f"{setting}" if peak is None else f"{setting}; peak {peak / 1e9:.0f} GFLOP/s"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("model", no_wrap=True)
    columns = ["images/s", "spread %", "GFLOP/s", "% of peak", "peak MB", "start s"]
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for name in benchmark.against:
        table.add_column(f"x {name}", justify="right")
    for result in results:
        table.add_row(str(result.contestant), *_cells(benchmark, result))
    return table


def _parts_table(results: Sequence[Result]) -> Table:
    title = "where the time of a prediction goes"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in ("model", "part"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ms", "%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        whole = sum(result.parts.values())
        for part, seconds in result.parts.items():
            figures = (f"{1000 * seconds:.1f}", f"{100 * seconds / whole:.0f}")
            table.add_row(str(result.contestant), part, *figures)
        table.add_section()
    return table


def _cells(benchmark: Benchmark, result: Result) -> list[str]:
    share, spread = result.share_of_peak, result.spread
    cells = [
        _speed(result.images_per_second),
        _number(None if spread is None else 100 * spread, ".1f"),
        _number(None if result.flops_per_second is None else result.flops_per_second / 1e9, ".0f"),
        _number(None if share is None else 100 * share, ".0f"),
        _number(None if result.memory is None else result.memory / 1e6, ".0f"),
        _number(result.preparation, ".1f"),
    ]
    ratios = [result.speed_against(benchmark.reference(name, result)) for name in benchmark.against]
    return cells + [_number(ratio, ".2f") for ratio in ratios]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _speed(images_per_second: float | None) -> str:
    """Write three digits, or all before the point."""
    if images_per_second is None:
        return _number(None, "")
    decimals = max(0, 2 - math.floor(math.log10(images_per_second)))
    return f"{images_per_second:.{decimals}f}"
