"""Backbones beside timm, transformers and torchvision: speed, memory, and the goals they are for.

    python benchmarks/backbones.py                      all sections, an hour or two on two cores
    python benchmarks/backbones.py --only batch_8 sizes --rounds 5

Each section is one `ziggurat bench` in a process of its own. Figures go to `backbones.json` and a
page of tables to `backbones.md` in `benchmarks/results`; sections that are not run keep theirs.

The official code cannot run beside these models: it needs PyTorch 0.4 to 1.7. It was measured once
on another machine, in turns with torchvision's ResNet-50; its speed relative to that one is taken
to be the same here.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
OURS = ["p2t_small", "pvt_small", "pvt_v2_b2", "pvt_v2_b2_li", "gpvit_l1", "topformer_base"]
PEERS = [
    "timm:pvt_v2_b2",
    "timm:pvt_v2_b2_li",
    "transformers:pvt-small",
    "transformers:pvt_v2_b2",
    "torchvision:resnet50",
    "torchvision:convnext_tiny",
]
EVERYONE = [*OURS, *PEERS]

SECTIONS: dict[str, tuple[str, list[str]]] = {
    "batch_8": ("Inference, batch 8 at 224, fp32", [*EVERYONE, "--fast"]),
    "batch_8_bf16": ("Inference, batch 8 at 224, bf16", [*EVERYONE, "--dtype=bf16", "--fast"]),
    "batch_1": ("Inference, batch 1 at 224, fp32", [*EVERYONE, "--batch=1", "--fast"]),
    "batch_1_bf16": (
        "Inference, batch 1 at 224, bf16",
        [*EVERYONE, "--batch=1", "--dtype=bf16", "--fast"],
    ),
    "dense": (
        "Inference, one image of 512 x 672, fp32",
        [*EVERYONE, "--batch=1", "--size=512x672", "--fast"],
    ),
    "dense_bf16": (
        "Inference, one image of 512 x 672, bf16",
        [*EVERYONE, "--batch=1", "--size=512x672", "--dtype=bf16", "--fast"],
    ),
    "training": ("Training step, batch 8 at 224, fp32", [*EVERYONE, "--train", "--fast"]),
    "training_bf16": (
        "Training step, batch 8 at 224, bf16",
        [*EVERYONE, "--train", "--dtype=bf16", "--fast"],
    ),
    "compiled": (
        "Eager and compiled, batch 8 at 224, fp32",
        [
            *("p2t_small", "pvt_v2_b2", "topformer_base", "timm:pvt_v2_b2"),
            *("transformers:pvt_v2_b2", "torchvision:resnet50"),
            *("--compile", "--measure=speed"),
        ],
    ),
    "kept_memory": (
        "Inference, batch 8 at 224, fp32, allocator keeps freed memory",
        [*EVERYONE, "--fast", "--allocator=keep", "--measure=speed"],
    ),
    "sizes": (
        "Memory over the size of the image, batch 1, fp32",
        [*OURS, "--batch=1", "--size=224,512,1024,2048", "--measure=memory"],
    ),
}
"""Heading of each section, and the words after `ziggurat bench`."""

RESNET = "torchvision:resnet50"
OFFICIAL_SPEED: dict[str, dict[str, float]] = {
    "batch_8": {
        RESNET: 18.9,
        "p2t_small": 18.1,
        "pvt_small": 18.1,
        "pvt_v2_b2": 21.6,
        "pvt_v2_b2_li": 21.8,
        "gpvit_l1": 10.5,
        "topformer_base": 82.9,
    },
    "batch_8_bf16": {
        RESNET: 34.3,
        "p2t_small": 52.5,
        "pvt_small": 41.5,
        "pvt_v2_b2": 50.9,
        "pvt_v2_b2_li": 46.9,
        "gpvit_l1": 26.6,
        "topformer_base": 109.9,
    },
    "dense": {
        RESNET: 3.62,
        "p2t_small": 2.07,
        "pvt_small": 2.49,
        "pvt_v2_b2": 1.49,
        "pvt_v2_b2_li": 1.76,
        "gpvit_l1": 1.72,
        "topformer_base": 14.5,
    },
    "dense_bf16": {
        RESNET: 3.07,
        "p2t_small": 2.41,
        "pvt_small": 5.34,
        "pvt_v2_b2": 2.24,
        "pvt_v2_b2_li": 2.40,
        "gpvit_l1": 3.34,
        "topformer_base": 12.1,
    },
}
"""Images/s of the official code and of ResNet-50 beside it: two cores with AVX-512 and AMX."""

OFFICIAL_GOALS = {
    "batch_8": 1.35,
    "batch_8_bf16": 2.0,
    "dense": 1.5,
    "dense_bf16": 2.0,
}
"""How many times as fast as the official code."""
TOPFORMER_GOAL = 1.5
"""The same for TopFormer, batch 8 in fp32."""
RIVALS = [
    ("pvt_v2_b2", "timm:pvt_v2_b2"),
    ("pvt_v2_b2_li", "timm:pvt_v2_b2_li"),
    ("pvt_v2_b2", "transformers:pvt_v2_b2"),
    ("pvt_small", "transformers:pvt-small"),
]
"""The same network, here and in another library."""
RIVAL_GOALS = {
    "batch_8": 1.5,
    "batch_8_bf16": 1.7,
    "training": 1.3,
    "training_bf16": 1.5,
}
SHARE_GOALS = {"batch_8": 0.55, "batch_8_bf16": 0.25}
"""Share of the speed of a large matrix product."""
MEMORY_GOALS = {"training": 0.7, "training_bf16": 0.6}
"""Peak memory of a training step as a share of the rival's."""

Entry = dict[str, Any]
"""A result in the JSON of `ziggurat bench`."""


@dataclass(frozen=True)
class Goal:
    """A figure that was aimed at.

    Attributes:
        text: What it is.
        wanted: The figure.
        reached: What was measured.
        is_limit: Whether it must not be exceeded; otherwise it must be reached.
    """

    text: str
    wanted: float
    reached: float
    is_limit: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the figure is as it should be."""
        return self.reached <= self.wanted if self.is_limit else self.reached >= self.wanted


def main() -> int:
    """Run the sections and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of both files")
    arguments = parser.parse_args()
    file = arguments.output / "backbones.json"
    sections: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for name in arguments.only:
        words = [*SECTIONS[name][1], f"--rounds={arguments.rounds}"]
        if arguments.threads is not None:
            words.append(f"--threads={arguments.threads}")
        command = [sys.executable, "-m", "ziggurat", "bench", *words, "--json"]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if process.returncode:  # it has said why
            return process.returncode
        sections[name] = {"date": date.today().isoformat(), **json.loads(process.stdout)}
        arguments.output.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(sections, indent=1) + "\n")
        (arguments.output / "backbones.md").write_text(describe(sections))
    print(f"wrote {file} and {arguments.output / 'backbones.md'}")
    return 0


def describe(sections: dict[str, Any]) -> str:
    """Return the page: goals, then a table for each setting."""
    lines = [
        "# Speed and memory of the backbones",
        "",
        "Written by `python benchmarks/backbones.py`; `docs/speed.md` says how it is measured.",
        "FLOPs are twice the MACs; MB is the peak memory of a step, weights included.",
        "",
        *_goals_table(find_goals(sections)),
    ]
    for name, (title, words) in SECTIONS.items():
        if name in sections:
            lines += ["", f"## {title}", "", f"`ziggurat bench {' '.join(words)}`", ""]
            lines += _section(sections[name])
    return "\n".join(lines) + "\n"


def find_goals(sections: dict[str, Any]) -> list[Goal]:
    """Return every goal whose figures are there; a model counts in its fastest variant."""
    goals = []
    for section, benchmark in sections.items():
        best = _fastest(benchmark["results"])
        goals += _against_official_code(section, best)
        goals += _against_rivals(section, best)
        if section in SHARE_GOALS:
            goals += [
                Goal(
                    f"{section}: share of the peak, {model}",
                    SHARE_GOALS[section],
                    best[model]["share_of_peak"],
                )
                for model in OURS
                if model in best
            ]
    return goals


def _fastest(results: list[Entry]) -> dict[str, Entry]:
    """The fastest entry of each model that was timed."""
    timed = [entry for entry in results if entry["images_per_second"] is not None]
    timed.sort(key=lambda entry: float(entry["images_per_second"]))
    return {entry["name"]: entry for entry in timed}


def _against_official_code(section: str, best: dict[str, Entry]) -> list[Goal]:
    """Compare what a model and its official code are to ResNet-50, each on its own machine."""
    official = OFFICIAL_SPEED.get(section, {})
    if RESNET not in best:
        return []
    goals = []
    for model in OURS:
        if model not in best or model not in official:
            continue
        is_faster_goal = (section, model) == ("batch_8", "topformer_base")
        wanted = TOPFORMER_GOAL if is_faster_goal else OFFICIAL_GOALS[section]
        here = _ratio(best, model, RESNET, "images_per_second")
        there = official[model] / official[RESNET]
        goals.append(Goal(f"{section}: {model} over the official code", wanted, here / there))
    return goals


def _against_rivals(section: str, best: dict[str, Entry]) -> list[Goal]:
    goals = []
    for model, rival in RIVALS:
        if model not in best or rival not in best:
            continue
        if section in RIVAL_GOALS:
            ratio = _ratio(best, model, rival, "images_per_second")
            goals.append(Goal(f"{section}: {model} over {rival}", RIVAL_GOALS[section], ratio))
        if section in MEMORY_GOALS and all(
            best[name]["peak_memory_bytes"] is not None for name in (model, rival)
        ):
            ratio = _ratio(best, model, rival, "peak_memory_bytes")
            text = f"{section}: memory of {model} over {rival}"
            goals.append(Goal(text, MEMORY_GOALS[section], ratio, is_limit=True))
    return goals


def _ratio(best: dict[str, Entry], model: str, rival: str, figure: str) -> float:
    ratio: float = best[model][figure] / best[rival][figure]
    return ratio


def _goals_table(goals: list[Goal]) -> list[str]:
    if not goals:
        return ["No section with goals has been run."]
    lines = ["| goal | wanted | reached | |", "|---|---|---|---|"]
    for goal in goals:
        sign, verdict = "<=" if goal.is_limit else ">=", "met" if goal.is_met else "**missed**"
        lines.append(f"| {goal.text} | {sign} {goal.wanted:.2f} | {goal.reached:.2f} | {verdict} |")
    return lines


def _section(benchmark: dict[str, Any]) -> list[str]:
    conditions = "; ".join(f"{key}: {value}" for key, value in benchmark["conditions"].items())
    results = benchmark["results"]
    if not any(entry["seconds_per_step"] for entry in results):
        return [f"{benchmark['date']}. {conditions}.", "", *_memory_table(results)]
    lines = [f"{benchmark['date']}, {benchmark['rounds']} rounds. {conditions}.", ""]
    tables: dict[str, list[Entry]] = {}
    for entry in results:
        work = "training step" if entry["is_training"] else "inference"
        height, width = entry["image_size"]
        setting = f"{work}, {entry['dtype']}, batch {entry['batch']}, {height}x{width}"
        tables.setdefault(setting, []).append(entry)
    for setting, entries in tables.items():
        peak = next((e["peak_flops_per_second"] for e in entries if e["seconds_per_step"]), None)
        heading = setting if peak is None else f"{setting}; peak {peak / 1e9:.0f} GFLOP/s"
        lines += [heading, "", "| model | images/s | spread % | GFLOP/s | % of peak | MB |"]
        lines += ["|---|---|---|---|---|---|", *map(_row, entries), ""]
        lines += [f"{e['name']}: {e['failure']}" for e in entries if e["failure"] is not None]
    return lines


def _memory_table(results: list[Entry]) -> list[str]:
    """A row for each model, a column for each size, and the growth from the last but one.

    From 1024 to 2048 there are four times the pixels: 4 is linear, 16 would be their square.
    """
    sizes = list(dict.fromkeys(tuple(entry["image_size"]) for entry in results))
    bytes_of = {(e["name"], tuple(e["image_size"])): e["peak_memory_bytes"] for e in results}
    headings = [f"MB at {height} x {width}" for height, width in sizes]
    lines = [f"| model | {' | '.join(headings)} | last / last but one |"]
    lines.append("|---" * (len(sizes) + 2) + "|")
    for name in dict.fromkeys(entry["name"] for entry in results):
        row = [bytes_of[name, size] for size in sizes]
        growth = row[-1] / row[-2] if row[-1] and row[-2] else None
        cells = [*(_number(value, 1e-6, ".0f") for value in row), _number(growth, 1.0, ".1f")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _row(entry: Entry) -> str:
    name = entry["name"] if entry["variant"] == "eager" else f"{entry['name']} ({entry['variant']})"
    cells = [
        _number(entry["images_per_second"], 1.0, ".2f"),
        _number(entry["spread"], 100.0, ".1f"),
        _number(entry["flops_per_second"], 1e-9, ".0f"),
        _number(entry["share_of_peak"], 100.0, ".0f"),
        _number(entry["peak_memory_bytes"], 1e-6, ".0f"),
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _number(value: float | None, factor: float, form: str) -> str:
    return "–" if value is None else format(factor * value, form)


if __name__ == "__main__":
    sys.exit(main())
