"""`ziggurat list`: every model with size, cost, published accuracy and recipes; or every file."""

import argparse
import json
from typing import Any, get_args

from rich import box
from rich.console import Console
from rich.table import Table

from ziggurat.cards import MODELS
from ziggurat.errors import check_known
from ziggurat.inference.cost import count_cost
from ziggurat.types import Task
from ziggurat.weights.catalogue import FILES, is_buildable
from ziggurat.weights.published_file import PublishedFile
from ziggurat.zoo import list_models

PIPED_WIDTH = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "--weights", action="store_true", help="published weight files instead of models"
    )
    parser.add_argument(
        "--task",
        help=f"only one task: {', '.join(get_args(Task))}",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """Print the models, or the weight files."""
    if args.weights:
        if args.task is not None:
            check_known("task", args.task, get_args(Task))
        files = [file for file in FILES.values() if args.task in (None, file.task)]
        entries = [_describe_file(file) for file in files]
    else:
        entries = [_describe_model(name) for name in list_models(task=args.task)]
    if args.json:
        print(json.dumps(entries, indent=2))
        return
    # A table that is piped into a file or another program is not folded.
    console = Console() if Console().is_terminal else Console(width=PIPED_WIDTH)
    make_table = _file_table if args.weights else _model_table
    for task in dict.fromkeys(entry["task"] for entry in entries):
        console.print(make_table(task, [entry for entry in entries if entry["task"] == task]))
    footnotes = _file_footnotes(entries) if args.weights else _model_footnotes(entries)
    for line in footnotes:
        console.print(line, style="dim", markup=False, highlight=False)


def _model_table(task: str, entries: list[dict[str, Any]]) -> Table:
    table = Table(title=task, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    for heading in ("M param.", "G MACs", "G FLOPs", "image"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("published, recipes", overflow="fold")
    for entry in entries:
        height, width = entry["image_size"]
        table.add_row(
            entry["name"],
            f"{entry['parameters'] / 1e6:.1f}",
            _giga(entry["macs"]),
            _giga(entry["flops"]),
            f"{height}x{width}",
            "\n".join([entry["published"], *entry["recipes"]]),
        )
    return table


def _giga(count: int) -> str:
    return f"{count / 1e9:.1f}" if count >= 1e9 else f"{count / 1e9:.2f}"


def _model_footnotes(entries: list[dict[str, Any]]) -> list[str]:
    """Say what is counted, and where that is not what the published table says."""
    lines = [
        "1 MAC = 2 FLOPs; work of one image (height x width), decoding left out, and with it what "
        "two-stage detectors do box by box."
    ]
    for entry in entries:
        if entry["size_note"]:
            published = [
                f"{entry[f'published_{key}']} {unit}"
                for key, unit in (("parameters", "M parameters"), ("macs", "G MACs"))
                if entry[f"published_{key}"] is not None
            ]
            lines.append(
                f"{entry['name']} is published with {' and '.join(published)}: "
                f"{entry['size_note']}."
            )
    return lines


def _describe_model(name: str) -> dict[str, Any]:
    card, cost = MODELS[name], count_cost(name)
    return {
        "name": name,
        "task": card.task,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "flops": cost.flops,
        "image_size": list(cost.image_size),
        "published": card.published,
        "published_parameters": card.parameters,
        "published_macs": card.macs,
        "size_note": card.size_note,
        "source": card.source,
        "recipes": list(card.recipes),
    }


def _file_table(task: str, entries: list[dict[str, Any]]) -> Table:
    table = Table(title=task, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in ("file", "model", "published", "size", "licence"):
        table.add_column(heading, overflow="fold")
    table.add_column("where", overflow="fold")
    for entry in entries:
        table.add_row(
            entry["name"],
            entry["model"] if entry["is_buildable"] else f"({entry['model']})",
            entry["published"],
            entry["published_size"] or "",
            entry["licence"] or "not stated",
            entry["url"] or f"by hand: {entry['page']}",
        )
    return table


def _file_footnotes(entries: list[dict[str, Any]]) -> list[str]:
    num_direct = sum(entry["url"] is not None for entry in entries)
    return [
        f"{len(entries)} files, {num_direct} of them downloaded by pretrained=True or "
        "pretrained='FILE'; get the others with a browser and give their path.",
        "Models in brackets cannot be built. `--json` has sources, preprocessing and hashes.",
    ]


def _describe_file(file: PublishedFile) -> dict[str, Any]:
    return {
        "name": file.name,
        "model": file.model,
        "task": file.task,
        "published": file.published,
        "metrics": dict(file.metrics),
        "dataset": file.dataset,
        "source": file.source,
        "licence": file.licence,
        "preprocessing": file.preprocessing,
        "url": file.url,
        "page": file.page,
        "how_to_get": file.how_to_get,
        "size": file.size,
        "published_size": file.published_size,
        "sha256_prefix": file.sha256_prefix,
        "remark": file.remark,
        "is_buildable": is_buildable(file),
    }
