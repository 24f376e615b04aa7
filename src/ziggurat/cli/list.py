"""`ziggurat list`: every model with size, cost and published accuracy; or every file, or recipe."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, get_args

from rich import box
from rich.table import Table

from ziggurat.cards import MODELS
from ziggurat.cli.console import table_console
from ziggurat.errors import ZigguratError, check_known, did_you_mean
from ziggurat.inference.cost import count_cost
from ziggurat.inference.recipes import describe_recipe, recipes_of_task
from ziggurat.systems import SYSTEMS
from ziggurat.types import ModelIdentity, Task
from ziggurat.weights.catalogue import FILES, is_buildable
from ziggurat.weights.published_file import PublishedFile
from ziggurat.zoo import BACKBONES, TIMM_PREFIX, combination_of, list_models, task_of

PIPED_WIDTH = 400
WEIGHTS_OPTION = "--model.backbone_weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "--weights", action="store_true", help="published weight files instead of models"
    )
    parser.add_argument(
        "--recipes", action="store_true", help="training runs of `ziggurat train` instead of models"
    )
    parser.add_argument(
        "--task",
        help=f"only one task: {', '.join(get_args(Task))}",
    )
    parser.add_argument(
        "--name",
        metavar="PATTERN",
        help="only names like this, with * for anything: 'p2t_*'; or the name of any model",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """Print the models, the weight files or the recipes.

    Raises:
        ZigguratError: If both files and recipes are asked for.
    """
    if args.weights and args.recipes:
        raise ZigguratError("give --weights or --recipes, not both")
    if args.weights:
        if args.task is not None:
            check_known("task", args.task, get_args(Task))
        names = [name for name, file in FILES.items() if args.task in (None, file.task)]
        entries = [_describe_file(FILES[name]) for name in _like(args.name, names)]
    elif args.recipes:
        if args.task is not None:
            check_known("task", args.task, get_args(Task))
        names = _like(args.name, recipes_of_task(args.task))
        entries = [dataclasses.asdict(describe_recipe(name)) for name in names]
    else:
        entries = [_describe_model(name) for name in _models_like(args.name, args.task)]
    if args.json:
        print(json.dumps(entries, indent=2))
        return
    console = table_console(PIPED_WIDTH)
    make_table, footnotes = _model_table, _model_footnotes
    if args.weights:
        make_table, footnotes = _file_table, _file_footnotes
    elif args.recipes:
        make_table, footnotes = _recipe_table, _recipe_footnotes
    for task in dict.fromkeys(entry["task"] for entry in entries):
        console.print(make_table(task, [entry for entry in entries if entry["task"] == task]))
    for line in footnotes(entries):
        console.print(line, style="dim", markup=False, highlight=False)


def _like(pattern: str | None, names: Sequence[str]) -> list[str]:
    """Return the names that a pattern fits.

    Raises:
        ZigguratError: If it fits none.
    """
    if pattern is None:
        return list(names)
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        hint = did_you_mean(pattern, names, "use * for any part of a name: '*p2t*'")
        raise ZigguratError(f"no name is like {pattern!r}; {hint}")
    return found


def _models_like(pattern: str | None, task: str | None) -> list[str]:
    """Return the published models that a pattern fits, or the one of another combination's name."""
    published = list_models(task=task)
    if pattern is None or pattern in published or combination_of(pattern) is None:
        return _like(pattern, published)
    return [pattern] if task in (None, task_of(pattern)) else _like(pattern, published)


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
    """Say what else can be built, what is counted, and where that is not what is published."""
    tasks = {entry["task"] for entry in entries}
    names = [
        ModelIdentity(system.task, name, "BACKBONE", num_classes=1).name
        for name, system in SYSTEMS.items()
        if system.task in tasks
    ]
    lines = [
        "1 MAC = 2 FLOPs; work of one image (height x width), decoding left out, and with it what "
        "two-stage detectors do box by box."
    ]
    if names:
        lines.append(
            f"Others can be built by name, any system on any backbone: {', '.join(names)}."
        )
        lines.append(f"Backbones: {', '.join(BACKBONES)}, {TIMM_PREFIX}NAME for a network of timm.")
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
    card, cost = MODELS.get(name), count_cost(name)
    return {
        "name": name,
        "task": task_of(name),
        "parameters": cost.parameters,
        "macs": cost.macs,
        "flops": cost.flops,
        "image_size": list(cost.image_size),
        "published": card.published if card else "",
        "published_parameters": card.parameters if card else None,
        "published_macs": card.macs if card else None,
        "size_note": card.size_note if card else "",
        "source": card.source if card else "",
        "recipes": list(card.recipes) if card else [],
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


def _recipe_table(task: str, entries: list[dict[str, Any]]) -> Table:
    table = Table(title=task, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("recipe, weights", no_wrap=True)
    table.add_column("published", overflow="fold")
    table.add_column("M param.", justify="right", no_wrap=True)
    table.add_column("schedule", overflow="fold")
    table.add_column("data", overflow="fold")
    for entry in entries:
        steps, epochs = entry["steps"], entry["epochs"]
        length = f"{epochs} epochs" if steps is None else f"{steps:,} steps"
        weights = entry["backbone_weights"]
        start = [entry["recipe"], *([f"{WEIGHTS_OPTION} {weights}"] if weights else [])]
        table.add_row(
            "\n".join(start),
            entry["published"] or "-",
            f"{entry['parameters'] / 1e6:.1f}",
            f"{length} x {entry['images_per_step']}",
            entry["data"],
        )
    return table


def _recipe_footnotes(entries: list[dict[str, Any]]) -> list[str]:
    return [
        f"{len(entries)} recipes; the schedule is its length and the images of a step, which "
        "published runs share out over several GPUs.",
        f"Start one with `ziggurat train RECIPE --data.root DIR`. With {WEIGHTS_OPTION} below it "
        "the published number needs that file: one that `ziggurat list --weights` shows with an "
        "address is downloaded by its name, of another give the path.",
        "On other hardware optimizer.lr follows the images of a step; `ziggurat train RECIPE "
        "--help` shows all values, and the header of each file what official code does otherwise.",
    ]
