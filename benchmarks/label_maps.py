"""From logits to labels: ours beside the plain way, in turns, equal to the last pixel.

    python benchmarks/label_maps.py [--threads N] [--output benchmarks/results/label_maps.json]

The plain way enlarges the logits of all 150 classes to the photo and takes the largest, as every
published evaluation does. Logits are those of a segmenter of stride 8 that is sure of its regions
("regions": a mosaic of 20 places, each of a class of its own that leads by 6), of one that is
hardly sure ("unsure": by 2), and noise, of which no class can be left out. Ratios are medians over
rounds in which both take their turn.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.engine.budget import describe_machine
from ziggurat.ops.label_maps import label_map
from ziggurat.types import ImageSize

NUM_CLASSES = 150
STRIDE = 8
NUM_PLACES = 20
SIZES: tuple[ImageSize, ...] = ((512, 512), (1024, 2048))
LEADS = {"regions": 6.0, "unsure": 2.0, "noise": 0.0}
ROUNDS = 9


def make_logits(size: ImageSize, lead: float) -> Tensor:
    """Return (K, h, w): noise, and in each place of a mosaic one class that leads."""
    draw = torch.Generator().manual_seed(0)
    height, width = size[0] // STRIDE, size[1] // STRIDE
    logits = torch.randn(NUM_CLASSES, height, width, generator=draw)
    seeds = torch.rand(NUM_PLACES, 2, generator=draw) * torch.tensor([height, width])
    cells = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    nearest = torch.cdist(cells, seeds).argmin(dim=1).view(1, height, width)
    classes = torch.randperm(NUM_CLASSES, generator=draw)[:NUM_PLACES]
    return logits.scatter_add(
        0, classes[nearest], torch.full_like(nearest, lead, dtype=torch.float)
    )


def plain(logits: Tensor, size: ImageSize) -> Tensor:
    """Enlarge everything, then compare everything."""
    return F.interpolate(logits[None], size=size, mode="bilinear")[0].argmax(dim=0)


def ours(logits: Tensor, size: ImageSize) -> Tensor:
    """Leave out what cannot win."""
    return label_map(logits, size, size, size).labels


def seconds(way: Callable[[Tensor, ImageSize], Tensor], logits: Tensor, size: ImageSize) -> float:
    """Time one call."""
    begin = time.perf_counter()
    way(logits, size)
    return time.perf_counter() - begin


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for size in SIZES:
        for name, lead in LEADS.items():
            logits = make_logits(size, lead)
            if not torch.equal(plain(logits, size), ours(logits, size).long()):
                print(f"labels differ: {name} at {size}", file=sys.stderr)
                return 1
            turns = [
                (seconds(plain, logits, size), seconds(ours, logits, size)) for _ in range(ROUNDS)
            ]
            row = {
                "size": size,
                "logits": name,
                "plain_ms": round(1000 * statistics.median(turn[0] for turn in turns), 1),
                "ours_ms": round(1000 * statistics.median(turn[1] for turn in turns), 1),
                "ratio": round(statistics.median(a / b for a, b in turns), 2),
            }
            rows.append(row)
            print(
                f"{size[0]} x {size[1]}, {name}: plain {row['plain_ms']} ms, "
                f"ours {row['ours_ms']} ms, {row['ratio']} times as fast",
                flush=True,
            )
    if arguments.output is not None:
        facts = {
            "machine": describe_machine(),
            "threads": arguments.threads,
            "date": date.today().isoformat(),
            "rows": rows,
        }
        arguments.output.write_text(json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
