"""Peak memory of the Feature Pyramid Transformer alone, beside what it predicts.

    python benchmarks/fpt_memory.py
    python benchmarks/fpt_memory.py --learns --size 400x672
    python benchmarks/fpt_memory.py --learns --formulas paper --window 5

256 channels, the maps of a ResNet-50; resident memory of this process over that before the pass,
with weights and input in it already. Linux only.
"""

import argparse
import sys
import threading
import time
from pathlib import Path

import torch

from ziggurat.layers.checkpointing import set_checkpointing
from ziggurat.necks.fpt import FeaturePyramidTransformer

CHANNELS = (256, 512, 1024, 2048)
STRIDES = (4, 8, 16, 32)
PAGE = 4096
SECONDS_BETWEEN_LOOKS = 0.005


def resident_bytes() -> int:
    """Return the memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def main() -> int:
    """Measure one pass and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="800x1344", metavar="HEIGHTxWIDTH")
    parser.add_argument("--formulas", choices=("official", "paper"), default="official")
    parser.add_argument("--learns", action="store_true", help="forward and backward")
    parser.add_argument("--window", type=int, metavar="SIDE", help="ground within a square")
    parser.add_argument("--checkpointing", action="store_true", help="compute each look again")
    parser.add_argument("--batch", type=int, default=1, metavar="IMAGES")
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    sizes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    neck = FeaturePyramidTransformer(
        CHANNELS, STRIDES, formulas=arguments.formulas, window=arguments.window
    )
    set_checkpointing(neck, arguments.checkpointing)
    neck = neck.to(memory_format=torch.channels_last).train(arguments.learns)
    maps = [
        torch.randn(arguments.batch, channels, *size).to(memory_format=torch.channels_last)
        for channels, size in zip(CHANNELS, sizes, strict=True)
    ]
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
    predicted = neck.predicted_bytes(sizes, batch=arguments.batch, learns=arguments.learns)
    print(
        f"{arguments.batch} x {arguments.size}, {arguments.formulas}, "
        f"window {arguments.window or 'none'}, "
        f"{'checkpointing, ' if arguments.checkpointing else ''}"
        f"{'forward and backward' if arguments.learns else 'forward'}: "
        f"{(peak - before) / 2**30:.2f} GiB, predicted {predicted / 2**30:.2f}, {seconds:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
