"""Peak memory of the Feature Pyramid Transformer alone, beside what it predicts, and its time.

    python benchmarks/fpt_memory.py
    python benchmarks/fpt_memory.py --learns --size 400x672
    python benchmarks/fpt_memory.py --learns --formulas paper --window 5
    python benchmarks/fpt_memory.py --key_budget 1050
    python benchmarks/fpt_memory.py --output benchmarks/results/fpt_memory.md

256 channels, the maps of a ResNet-50; resident memory of this process over that before the pass,
with weights and input in it already. With `--output` all passes of the page are measured, each in
a process of its own. Linux only.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ziggurat.engine.budget import describe_machine
from ziggurat.layers.checkpointing import set_checkpointing
from ziggurat.layers.self_transformer import pool_keys
from ziggurat.necks.fpt import FeaturePyramidTransformer

CHANNELS = (256, 512, 1024, 2048)
STRIDES = (4, 8, 16, 32)
PAGE = 4096
SECONDS_BETWEEN_LOOKS = 0.005
BUDGETS = (4200, 1050, 273)
PASSES = (
    "",
    "--learns",
    "--formulas paper",
    "--learns --formulas paper",
    "--formulas paper --window 5",
    "--learns --formulas paper --window 5",
    "--learns --checkpointing",
    *(
        f"{formulas} --key_budget {budget}"
        for formulas in ("--formulas official", "--formulas paper")
        for budget in BUDGETS
    ),
)
"""Options of the passes of the page."""


def resident_bytes() -> int:
    """Return the memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one pass, and return what it took."""
    height, width = (int(side) for side in arguments.size.split("x"))
    sizes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    neck = FeaturePyramidTransformer(
        CHANNELS,
        STRIDES,
        formulas=arguments.formulas,
        window=arguments.window,
        key_budget=arguments.key_budget,
    )
    set_checkpointing(neck, arguments.checkpointing)
    neck = neck.to(memory_format=torch.channels_last).train(arguments.learns)
    maps = [
        torch.randn(arguments.batch, channels, *size).to(memory_format=torch.channels_last)
        for channels, size in zip(CHANNELS, sizes, strict=True)
    ]
    keys = pool_keys(maps[0][:1, :1], arguments.key_budget, least=2).numel()
    before = peak = resident_bytes()
    is_done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_done.wait(SECONDS_BETWEEN_LOOKS):
            peak = max(peak, resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    begin = time.perf_counter()
    with torch.set_grad_enabled(arguments.learns):
        levels = neck(maps)
        if arguments.learns:
            torch.stack([level.square().mean() for level in levels]).sum().backward()
    seconds = time.perf_counter() - begin
    is_done.set()
    watcher.join()
    return {
        "keys": keys,
        "peak": peak - before,
        "predicted": neck.predicted_bytes(sizes, batch=arguments.batch, learns=arguments.learns),
        "seconds": seconds,
    }


def describe(arguments: argparse.Namespace) -> str:
    """Word what a pass does."""
    words = [f"{arguments.batch} x {arguments.size}", arguments.formulas]
    if arguments.window is not None:
        words.append(f"window {arguments.window}")
    if arguments.key_budget is not None:
        words.append(f"at most {arguments.key_budget} keys")
    if arguments.checkpointing:
        words.append("checkpointing")
    words.append("forward and backward" if arguments.learns else "forward")
    return ", ".join(words)


def write_page(parser: argparse.ArgumentParser, path: Path) -> None:
    """Measure all passes of the page, each in a process of its own, and write it."""
    lines = [
        "# Memory and time of the Feature Pyramid Transformer",
        "",
        f"Written by `python benchmarks/fpt_memory.py --output {path}` on {date.today()}: "
        f"{describe_machine()}, {torch.get_num_threads()} threads. Peak is resident memory over "
        "that before the pass; keys are those of the finest map's look at itself. float32, 256 "
        "channels, the maps of a ResNet-50.",
        "",
        "| pass | keys | peak GiB | predicted GiB | seconds |",
        "|---|---|---|---|---|",
    ]
    for options in PASSES:
        words = options.split()
        command = [sys.executable, __file__, "--json", *words]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        name = describe(parser.parse_args(words))
        print(f"{name}: {found}", flush=True)
        gib = (f"{found[key] / 2**30:.2f}" for key in ("peak", "predicted"))
        lines.append(f"| {name} | {found['keys']} | {' | '.join(gib)} | {found['seconds']:.1f} |")
    path.write_text("\n".join(lines) + "\n")


def main() -> int:
    """Measure one pass and print it, or all of the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="800x1344", metavar="HEIGHTxWIDTH")
    parser.add_argument("--formulas", choices=("official", "paper"), default="official")
    parser.add_argument("--learns", action="store_true", help="forward and backward")
    parser.add_argument("--window", type=int, metavar="SIDE", help="ground within a square")
    parser.add_argument("--key_budget", type=int, metavar="KEYS", help="most keys of a softmax")
    parser.add_argument("--checkpointing", action="store_true", help="compute each look again")
    parser.add_argument("--batch", type=int, default=1, metavar="IMAGES")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a line")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the page")
    arguments = parser.parse_args()
    if arguments.output is not None:
        write_page(parser, arguments.output)
        return 0
    found = measure(arguments)
    print(
        json.dumps(found)
        if arguments.json
        else f"{describe(arguments)}: {found['peak'] / 2**30:.2f} GiB, predicted "
        f"{found['predicted'] / 2**30:.2f}, {found['keys']} keys, {found['seconds']:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
