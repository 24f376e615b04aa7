"""`ziggurat list`: every model with size, cost, published accuracy and recipe."""

import argparse
import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ziggurat.cards import MODELS
from ziggurat.inference.cost import count_cost
from ziggurat.zoo import list_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("--task", help="only models of this task: classification or detection")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """Print the models."""
    entries = [_describe(name) for name in list_models(task=args.task)]
    if args.json:
        print(json.dumps(entries, indent=2))
        return
    # A table that is piped into a file or another program is not folded.
    console = Console() if Console().is_terminal else Console(width=200)
    for task in dict.fromkeys(entry["task"] for entry in entries):
        console.print(_table(task, [entry for entry in entries if entry["task"] == task]))
    console.print(
        "1 MAC = 2 FLOPs; work of one image (height x width), decoding left out.", style="dim"
    )


def _table(task: str, entries: list[dict[str, Any]]) -> Table:
    table = Table(title=task, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    for heading in ("M param.", "G MACs", "G FLOPs", "image"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("published, recipe", overflow="fold")
    for entry in entries:
        height, width = entry["image_size"]
        table.add_row(
            entry["name"],
            f"{entry['parameters'] / 1e6:.1f}",
            f"{entry['macs'] / 1e9:.1f}",
            f"{entry['flops'] / 1e9:.1f}",
            f"{height}x{width}",
            f"{entry['published']}\n{entry['recipe'] or 'no recipe yet'}",
        )
    return table


def _describe(name: str) -> dict[str, Any]:
    card, cost = MODELS[name], count_cost(name)
    return {
        "name": name,
        "task": card.task,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "flops": cost.flops,
        "image_size": list(cost.image_size),
        "published": card.published,
        "source": card.source,
        "recipe": card.recipe,
    }
