"""A detector and a classifier from scratch on small real data sets, on an ordinary machine.

    python benchmarks/real_data.py --data ../shared/data --minutes 30

trains `retinanet_p2t_tiny` on BCCD blood cells (205 images, 3 classes) and `p2t_tiny` on the
grocery photos (771 images, 43 classes), each for at most so many minutes, evaluates the best
weights on the validation split, and writes a page with curves and pictures for each, and
`real_data.json` with the figures and the machine.

Goals: AP50 of 0.60 on BCCD; a top-1 above 45.3 % on grocery, which is what the nearest neighbour of
the colour histogram reaches.
"""

import argparse
import json
import os
import platform
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ziggurat.config.files import load_run
from ziggurat.engine.budget import fit_to_minutes
from ziggurat.engine.progress import duration
from ziggurat.engine.train import train
from ziggurat.inference.evaluation import evaluate_run
from ziggurat.visualize.plots import (
    group_curves,
    plot_classes,
    plot_confusion,
    plot_curves,
    read_curves,
)
from ziggurat.visualize.report import Fact, Plot, ReportPage, write_report

# Recipe, number, goal, and what the data set needs: BCCD's photos are 640 x 480.
TASKS = {
    "bccd": (
        "retinanet_p2t_tiny_from_scratch",
        "AP50",
        0.60,
        ["--data.short_side=240", "--data.long_side=320"],
    ),
    "grocery": ("p2t_tiny_from_scratch", "top1", 0.453, []),
}


def main() -> int:
    """Run the benchmark; the exit code says whether every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("runs/real_data"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--only", choices=sorted(TASKS))
    parser.add_argument("overrides", nargs="*", help="--section.field=value, after a --")
    arguments = parser.parse_args()
    results = []
    for name in [arguments.only] if arguments.only else TASKS:
        results.append(
            measure(
                name,
                arguments.data / name,
                arguments.output / name,
                arguments.minutes,
                arguments.overrides,
            )
        )
    file = arguments.output / "real_data.json"
    file.write_text(json.dumps({"machine": machine(), "results": results}, indent=2))
    print(f"wrote {file}")
    return 0 if all(result["value"] >= result["goal"] for result in results) else 1


def measure(
    name: str, root: Path, output: Path, minutes: float, overrides: list[str]
) -> dict[str, Any]:
    """Train on one data set and evaluate the best weights."""
    recipe, number, goal, settings = TASKS[name]
    start = time.monotonic()
    config = load_run(recipe, [f"--data.root={root}", *settings, *overrides])
    config = fit_to_minutes(config, minutes, print)
    train(config, output, say=lambda line: print(line, flush=True))
    seconds = time.monotonic() - start
    report = evaluate_run(output).report
    value = report.numbers[number]
    print(f"{name}: {number} {value:.4f} (goal {goal}) in {duration(seconds)}")
    curves = group_curves(read_curves(output / "metrics.csv"))
    plots = [Plot("Training", plot_curves(curves), plot_curves(curves, dark=True))]
    if report.confusion is not None:
        names = [str(row["class"]) for row in report.per_class]
        confusion = report.confusion
        light, dark = (plot_confusion(confusion, names, dark=flag) for flag in (False, True))
        plots.append(Plot("Confusion", light, dark))
    else:
        plots.append(
            Plot("Classes", plot_classes(report, "AP"), plot_classes(report, "AP", dark=True))
        )
    page = ReportPage(
        title=f"{recipe} on {name}",
        summary=f"{number} {100 * value:.1f} % after {duration(seconds)}, from random weights.",
        report=report,
        facts=[Fact("machine", machine()), Fact("steps", str(config.trainer.max_steps))],
        plots=plots,
    )
    write_report(output / "report.html", page)
    return {
        "data": name,
        "recipe": recipe,
        "date": date.today().isoformat(),
        "seconds": round(seconds),
        "steps": config.trainer.max_steps or 0,
        "number": number,
        "value": round(value, 4),
        "goal": goal,
        **{key: round(entry, 4) for key, entry in report.numbers.items()},
    }


def machine() -> str:
    """Describe what the figures were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{device}, {os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
