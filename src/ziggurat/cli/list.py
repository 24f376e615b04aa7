"""`ziggurat list`: every model with size, cost, published accuracy and recipe."""

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from ziggurat.inference.cost import count_cost
from ziggurat.zoo import MODELS, list_models


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
    table = Table(title="Models", title_justify="left")
    for heading in ("name", "task"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "MACs", "FLOPs", "at size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("published", "recipe"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        height, width = entry["image_size"]
        table.add_row(
            entry["name"],
            entry["task"],
            f"{entry['parameters'] / 1e6:.1f} M",
            f"{entry['macs'] / 1e9:.1f} G",
            f"{entry['flops'] / 1e9:.1f} G",
            f"{height} x {width}",
            entry["published"],
            entry["recipe"],
        )
    console = Console()
    # A table that is piped into a file or another program is not folded.
    console.print(table, width=console.width if console.is_terminal else 200)
    console.print("1 MAC = 2 FLOPs; work of one image (height x width), decoding left out.")


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
