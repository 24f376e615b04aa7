"""Detectors beside torchvision's: speed, memory, and where the time goes.

    python benchmarks/detection.py                        all sections, two hours on two cores
    python benchmarks/detection.py --only retinanet pasting --rounds 5

RetinaNet and Mask R-CNN with ResNet-50 at the size of published detectors, ours and torchvision's
in turns: whole predictions with post-processing, and whole training steps with the losses of drawn
objects. Weights are fresh; the classification is scaled so that something is found.

Post-processing by itself is held against the straightforward way to write it. Figures go to
`detection.json`, a page of tables to `detection.md`, both in `benchmarks/results`; sections that
are not run keep theirs.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
import torchvision.ops
from torch import Tensor

from ziggurat.bench.machine import describe_conditions
from ziggurat.bench.turns import take_turns, warm_up
from ziggurat.heads.retinanet import ANCHORS, RetinaNetHead, RetinaNetOutput
from ziggurat.ops.boxes import decode_deltas
from ziggurat.ops.region_masks import paste_masks
from ziggurat.ops.roi_align import roi_align
from ziggurat.types import ImageSize
from ziggurat.zoo import create_model

RESULTS = Path(__file__).parent / "results"
SIZE: ImageSize = (800, 1344)
"""COCO's photos at 1333 x 800, padded."""
RETINANET = ["retinanet_resnet50", "--against=torchvision:retinanet_resnet50_fpn"]
MASK_RCNN = ["mask_rcnn_resnet50", "--against=torchvision:maskrcnn_resnet50_fpn"]
PREDICT = ["--batch=1", "--size=800x1344"]
TRAIN = ["--batch=1", "--size=800x1344", "--train"]

SECTIONS: dict[str, tuple[str, list[str]]] = {
    "retinanet": ("RetinaNet, prediction, fp32", [*RETINANET, *PREDICT, "--fast"]),
    "retinanet_bf16": (
        "RetinaNet, prediction, bf16",
        [*RETINANET, *PREDICT, "--dtype=bf16", "--fast"],
    ),
    "retinanet_training": ("RetinaNet, training step, fp32", [*RETINANET, *TRAIN]),
    "mask_rcnn": ("Mask R-CNN, prediction, fp32", [*MASK_RCNN, *PREDICT, "--fast"]),
    "mask_rcnn_bf16": (
        "Mask R-CNN, prediction, bf16",
        [*MASK_RCNN, *PREDICT, "--dtype=bf16", "--fast"],
    ),
    "mask_rcnn_training": ("Mask R-CNN, training step, fp32", [*MASK_RCNN, *TRAIN]),
    "transformers": (
        "Detectors on pyramid transformers, prediction, fp32",
        ["retinanet_p2t_small", "mask_rcnn_p2t_small", "mask_rcnn_pvt_v2_b2", *PREDICT, "--fast"],
    ),
}
"""Heading of each section, and the words after `ziggurat bench`."""

Entry = dict[str, Any]
"""A result in the JSON of `ziggurat bench`."""
Way = Callable[[], object]


def main() -> int:
    """Run the sections and write the page."""
    known = [*SECTIONS, *PARTS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=known, default=known)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of both files")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    file = arguments.output / "detection.json"
    sections: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for number, name in enumerate(arguments.only, start=1):
        print(f"section {number} of {len(arguments.only)}: {name}", file=sys.stderr, flush=True)
        if name in PARTS:
            outcome: dict[str, Any] | None = measure_part(name, arguments.rounds)
        else:
            outcome = measure_section(name, arguments.rounds, arguments.threads)
        if outcome is None:  # the process has said why
            return 1
        sections[name] = {"date": date.today().isoformat(), **outcome}
        arguments.output.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(sections, indent=1) + "\n")
        (arguments.output / "detection.md").write_text(describe(sections))
    print(f"wrote {file} and {arguments.output / 'detection.md'}")
    return 0


def measure_section(name: str, rounds: int, threads: int | None) -> dict[str, Any] | None:
    """Run `ziggurat bench` in a process of its own; None if it failed."""
    words = [*SECTIONS[name][1], f"--rounds={rounds}"]
    if threads is not None:
        words.append(f"--threads={threads}")
    command = [sys.executable, "-m", "ziggurat", "bench", *words, "--json"]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    outcome: dict[str, Any] = json.loads(process.stdout) if process.returncode == 0 else {}
    return outcome or None


def measure_part(name: str, rounds: int) -> dict[str, Any]:
    """Time the ways to do a part of post-processing, in turns."""
    device = torch.device("cpu")
    torch.manual_seed(0)
    with torch.inference_mode():
        ways = {key: warm_up(partial(_take, way), device) for key, way in PARTS[name][1]().items()}
        turns = take_turns(ways, rounds, device, lambda done, total: None)
    return {
        "conditions": describe_conditions(device, "default"),
        "rounds": rounds,
        "seconds": {key: list(figures) for key, figures in turns.items()},
    }


def _take(way: Way) -> None:
    way()


def draw_boxes(count: int) -> Tensor:
    """Draw boxes from 16 pixels to half of the image a side."""
    side = torch.tensor([SIZE[1], SIZE[0]])
    size = 16 + torch.rand(count, 2) * (side / 2 - 16)
    corner = torch.rand(count, 2) * (side - size)
    return torch.cat([corner, corner + size], dim=1)


def decoding() -> dict[str, Way]:
    """RetinaNet's raw output of 80 classes to detections; about 300 scores are above 0.05."""
    head = create_model("retinanet", backbone="resnet50").head
    assert isinstance(head, RetinaNetHead)
    maps = [(-(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in head.strides]
    raw = RetinaNetOutput(
        [torch.randn(1, 9 * 80, *size) / 2 - 5 for size in maps],
        [torch.randn(1, 9 * 4, *size) / 10 for size in maps],
    )
    return {
        "ziggurat": lambda: head.decode(raw, [SIZE]),
        "all scores and boxes, class by class": lambda: decode_all(raw, head.strides),
    }


def decode_all(raw: RetinaNetOutput, strides: Sequence[int]) -> Tensor:
    """Return the best hundred detections of an image as boxes, scores and labels."""
    scores = [x[0].permute(1, 2, 0).reshape(-1, 80).sigmoid() for x in raw.cls_logits]
    deltas = [x[0].permute(1, 2, 0).reshape(-1, 4) for x in raw.box_deltas]
    anchors = [
        ANCHORS.level((x.shape[2], x.shape[3]), stride)
        for x, stride in zip(raw.cls_logits, strides, strict=True)
    ]
    boxes, all_scores = (
        decode_deltas(torch.cat(anchors), torch.cat(deltas), SIZE),
        torch.cat(scores),
    )
    found = []
    for label in range(80):
        mine = all_scores[:, label] > 0.05
        kept = torchvision.ops.nms(boxes[mine], all_scores[mine, label], 0.5)
        columns = [boxes[mine][kept], all_scores[mine, label][kept, None]]
        found.append(torch.cat([*columns, torch.full((len(kept), 1), float(label))], dim=1))
    result = torch.cat(found)
    return result[result[:, 4].argsort(descending=True)[:100]]


def pasting() -> dict[str, Way]:
    """A hundred masks of 28 x 28 into the image."""
    masks, boxes = torch.rand(100, 28, 28), draw_boxes(100)
    return {
        "ziggurat": lambda: paste_masks(masks, boxes, SIZE),
        "one by one over the whole image": lambda: [
            paste_one(mask, box) for mask, box in zip(masks, boxes, strict=True)
        ],
    }


def paste_one(mask: Tensor, box: Tensor) -> Tensor:
    """Sample the mask at every pixel of the image."""
    x = (torch.arange(SIZE[1]) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
    y = (torch.arange(SIZE[0]) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0] >= 0.5


def pooling() -> dict[str, Way]:
    """A thousand regions out of a level of stride 8, 256 channels, to 7 x 7."""
    level = torch.randn(1, 256, SIZE[0] // 8, SIZE[1] // 8)
    level = level.contiguous(memory_format=torch.channels_last)
    corner = torch.rand(1000, 2) * torch.tensor([1100.0, 560.0])
    boxes = torch.cat([corner, corner + 112 + 112 * torch.rand(1000, 2)], dim=1)
    regions = torch.cat([torch.zeros(1000, 1), boxes], dim=1)
    return {
        "ziggurat": lambda: roi_align(level, regions, 7, 1 / 8, 0),
        "torchvision's operator": lambda: torchvision.ops.roi_align(
            level, regions, 7, 1 / 8, 0, aligned=True
        ),
    }


def adaptive_pooling() -> dict[str, Way]:
    """The same number of regions, of all sizes, out of all levels, as PANet's heads read them."""
    levels = {
        stride: torch.randn(1, 256, SIZE[0] // stride, SIZE[1] // stride).contiguous(
            memory_format=torch.channels_last
        )
        for stride in (4, 8, 16, 32)
    }
    regions = torch.cat([torch.zeros(1000, 1), draw_boxes(1000)], dim=1)
    return {
        "ziggurat": lambda: [
            roi_align(level, regions, 7, 1 / stride, 2, aligned=False)
            for stride, level in levels.items()
        ],
        "torchvision's operator": lambda: [
            torchvision.ops.roi_align(level, regions, 7, 1 / stride, 2, aligned=False)
            for stride, level in levels.items()
        ],
    }


PARTS: dict[str, tuple[str, Callable[[], dict[str, Way]]]] = {
    "decoding": ("RetinaNet's raw output at 1344 x 800 to detections, 80 classes", decoding),
    "pasting": ("100 masks of 28 x 28 into 1344 x 800", pasting),
    "pooling": ("1000 regions out of a level of stride 8, 256 channels, to 7 x 7", pooling),
    "adaptive_pooling": ("1000 regions out of each of four levels, likewise", adaptive_pooling),
}
"""Heading of each part of post-processing, and what makes the ways to do it."""


def describe(sections: dict[str, Any]) -> str:
    """Return the page: a table for each section."""
    lines = [
        "# Speed and memory of the detectors",
        "",
        "Written by `python benchmarks/detection.py`; `docs/speed.md` says how it is measured. A",
        "prediction has its post-processing in it, a training step the detector's own losses.",
    ]
    for name, (title, words) in SECTIONS.items():
        if name in sections:
            command = f"`ziggurat bench {' '.join(words)}`"
            lines += ["", f"## {title}", "", command, "", *_section(sections[name])]
    for name, (title, _) in PARTS.items():
        if name in sections:
            lines += ["", f"## {title}", "", *_part(sections[name])]
    return "\n".join(lines) + "\n"


def _section(benchmark: dict[str, Any]) -> list[str]:
    lines = [_conditions(benchmark), ""]
    against = benchmark["against"]
    lines.append("| model | images/s | % of peak | MB |" + "".join(f" x {n} |" for n in against))
    lines.append("|---" * (4 + len(against)) + "|")
    for entry in benchmark["results"]:
        cells = [
            _name(entry),
            _number(entry["images_per_second"], 1.0, ".3f"),
            _number(entry["share_of_peak"], 100.0, ".0f"),
            _number(entry["peak_memory_bytes"], 1e-6, ".0f"),
            *(_number(entry["speed_against"][name], 1.0, ".2f") for name in against),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    parted = [entry for entry in benchmark["results"] if entry["seconds_of_parts"]]
    if parted:
        lines += ["", "| model | part | ms |", "|---|---|---|"]
    for entry in parted:
        for part, seconds in entry["seconds_of_parts"].items():
            lines.append(f"| {_name(entry)} | {part} | {1000 * seconds:.1f} |")
    failures = [f"{_name(e)}: {e['failure']}" for e in benchmark["results"] if e["failure"]]
    return [*lines, *([""] if failures else []), *failures]


def _part(outcome: dict[str, Any]) -> list[str]:
    lines = [_conditions(outcome), "", "| way | ms | times as long |", "|---|---|---|"]
    ours = outcome["seconds"]["ziggurat"]
    for key, figures in outcome["seconds"].items():
        ratio = median(other / own for own, other in zip(ours, figures, strict=True))
        lines.append(f"| {key} | {1000 * median(figures):.1f} | {ratio:.2f} |")
    return lines


def _conditions(outcome: dict[str, Any]) -> str:
    conditions = "; ".join(f"{key}: {value}" for key, value in outcome["conditions"].items())
    return f"{outcome['date']}, {outcome['rounds']} rounds. {conditions}."


def _name(entry: Entry) -> str:
    plain: str = entry["name"]
    return plain if entry["variant"] == "eager" else f"{plain} ({entry['variant']})"


def _number(value: float | None, factor: float, form: str) -> str:
    return "–" if value is None else format(factor * value, form)


if __name__ == "__main__":
    sys.exit(main())
