"""From logits to labels: ours beside the plain way, in turns, equal to the last pixel.

    python benchmarks/label_maps.py [--threads N] [--output benchmarks/results/label_maps.json]

The plain way enlarges the logits of all 150 classes to the photo and takes the largest, as every
published evaluation does. "photo" are logits like those of a trained segmenter of stride 8: 20 of
the classes occur, the best leads the next by 4 and the median by 10, and 83 to 93 % of the cells
have neighbours of their own class (TopFormer-Tiny on CamVid: 4, 9, 85 %). "noise" has a class of
its own in every cell, so that nothing can be left out. Ratios are medians over rounds in which both
take their turn.
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
SIZES: tuple[tuple[ImageSize, ImageSize], ...] = (
    ((512, 512), (512, 512)),
    ((1024, 2048), (1024, 2048)),
    ((512, 704), (480, 640)),
)
"""Of the network's input and of the photo; the last is enlarged for the network, as most are."""
ROUNDS = 9


def make_logits(size: ImageSize, *, is_noise: bool) -> Tensor:
    """Return (K, h, w): noise, or a mosaic of places with smooth logits."""
    draw = torch.Generator().manual_seed(0)
    height, width = size[0] // STRIDE, size[1] // STRIDE
    noise = torch.randn(NUM_CLASSES, height, width, generator=draw)
    if is_noise:
        return noise
    coarse = torch.randn(1, NUM_CLASSES, height // 8, width // 8, generator=draw)
    logits = 2.0 * F.interpolate(coarse, size=(height, width), mode="bicubic")[0] + 0.2 * noise
    middles = torch.rand(NUM_PLACES, 2, generator=draw) * torch.tensor([height, width])
    cells = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    nearest = torch.cdist(cells, middles).argmin(dim=1).view(height, width)
    places = F.one_hot(nearest, NUM_PLACES).permute(2, 0, 1).float()
    leads = F.avg_pool2d(places[None], 3, 1, 1, count_include_pad=False)[0]
    present = torch.randperm(NUM_CLASSES, generator=draw)[:NUM_PLACES]
    logits -= 3.0
    logits[present] += 3.0 + 8.0 * leads
    return logits


def plain(logits: Tensor, size: ImageSize, photo: ImageSize) -> Tensor:
    """Enlarge everything, then compare everything."""
    x = F.interpolate(logits[None], size=size, mode="bilinear")
    if photo != size:
        x = F.interpolate(x, size=photo, mode="bilinear")
    return x[0].argmax(dim=0)


def ours(logits: Tensor, size: ImageSize, photo: ImageSize) -> Tensor:
    """Leave out what cannot win."""
    return label_map(logits, size, size, photo).labels


def seconds(
    way: Callable[[Tensor, ImageSize, ImageSize], Tensor],
    logits: Tensor,
    size: ImageSize,
    photo: ImageSize,
) -> float:
    """Time one call."""
    begin = time.perf_counter()
    way(logits, size, photo)
    return time.perf_counter() - begin


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for size, photo in SIZES:
        for name in ("photo", "noise"):
            logits = make_logits(size, is_noise=name == "noise")
            if not torch.equal(plain(logits, size, photo), ours(logits, size, photo).long()):
                print(f"labels differ: {name} at {size}, photo {photo}", file=sys.stderr)
                return 1
            turns = [
                (seconds(plain, logits, size, photo), seconds(ours, logits, size, photo))
                for _ in range(ROUNDS)
            ]
            row = {
                "size": size,
                "photo": photo,
                "logits": name,
                "plain_ms": round(1000 * statistics.median(turn[0] for turn in turns), 1),
                "ours_ms": round(1000 * statistics.median(turn[1] for turn in turns), 1),
                "ratio": round(statistics.median(a / b for a, b in turns), 2),
            }
            rows.append(row)
            print(
                f"{size[0]} x {size[1]}, photo {photo[0]} x {photo[1]}, {name}: "
                f"plain {row['plain_ms']} ms, "
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
