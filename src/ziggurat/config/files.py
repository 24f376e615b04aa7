"""Runs in files: recipes that come with the package, a user's own, and the one beside a result."""

import dataclasses
import os
from collections.abc import Hashable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ziggurat.config.fields import Tree, check_known, check_name, field_names, read_values
from ziggurat.config.tree import RUNS, TrainConfig
from ziggurat.errors import ZigguratError, nearest_names

_WEIGHTS = ("weights", "backbone_weights")
"""Fields of `model` that are texts, `true` among them, which YAML reads as no text."""


class _Loader(yaml.SafeLoader):
    """Plain values only, and no key twice: of two values the first would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the values by their keys.

        Raises:
            ConstructorError: If a key stands twice.
        """
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, (key, _) in enumerate(node.value):
            if keys[number] in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    problem=f"{keys[number]!r} stands twice", problem_mark=key.start_mark
                )
        return super().construct_mapping(node, deep)


def list_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("ziggurat.recipes")
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def recipe_path(name: str) -> Path:
    """Return the file of a recipe.

    Args:
        name: Name of the recipe.

    Raises:
        ZigguratError: If there is no such recipe.
    """
    known = list_recipes()
    if name not in known:
        near = nearest_names(name, known, 3)
        hint = f"the nearest are {', '.join(near)}; " if near else ""
        raise ZigguratError(
            f"unknown recipe {name!r}: neither a file nor a recipe of this package; {hint}"
            "`ziggurat list --recipes` prints all"
        )
    return Path(str(resources.files("ziggurat.recipes") / f"{name}.yaml"))


def load_run(source: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a run.

    Args:
        source: Name of a recipe, or path of a YAML file with `task` and the sections of a run.
        overrides: "--section.field=value" words, which win over the file.

    Raises:
        ZigguratError: If the file cannot be read, or a name or a value in it or in the overrides is
            wrong.
    """
    tree = read_tree(source)
    task = tree["task"]
    check_known(tree, task, str(source))
    known = field_names(task)
    for word in overrides:
        name, separator, _ = word.partition("=")
        if not name.startswith("--") or not separator:
            raise ZigguratError(f"an override must read --section.field=value, got {word!r}")
        check_name(name[2:], known, task, "the command line")
    sections = {name: content for name, content in tree.items() if name != "task"}
    return read_values(sections, overrides, task, str(source))


def read_tree(source: str | Path) -> Tree:
    """Read the YAML of a recipe or file; only `task` is checked.

    `weights: true` of the model becomes the text that it is on the command line.

    Args:
        source: Name of a recipe, or path of a file.

    Raises:
        ZigguratError: If it is neither, no YAML, or of no known task.
    """
    path = Path(source)
    if not path.suffix and os.sep not in str(source) and not path.is_file():
        path = recipe_path(str(source))
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ZigguratError(f"run file {path} cannot be read: {reason}") from error
    except yaml.YAMLError as error:
        raise ZigguratError(
            f"run file {path} is no YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(tree, dict):
        raise ZigguratError(f"run file {path} must hold sections of fields, got {tree!r}")
    if tree.get("task") not in list(RUNS):  # a list compares what cannot be hashed, too
        raise ZigguratError(
            f"run file {path} must say `task: {'` or `task: '.join(RUNS)}`, "
            f"got {tree.get('task')!r}"
        )
    model = tree.get("model")
    if isinstance(model, dict):
        for name in _WEIGHTS:
            if isinstance(model.get(name), bool):
                model[name] = str(model[name]).lower()
    return tree


def run_to_tree(run: TrainConfig) -> Tree:
    """Return the run as plain dictionaries, lists and values, `task` first."""
    tree: Tree = dataclasses.asdict(run)
    task = tree.pop("task")
    return {"task": task, **_plain(tree)}


def run_to_yaml(run: TrainConfig) -> str:
    """Return the resolved run as the text of a file that `load_run` gives it back from."""
    return yaml.safe_dump(run_to_tree(run), sort_keys=False)


def _plain(value: Any) -> Any:  # noqa: ANN401  a tree of anything that YAML knows
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value
