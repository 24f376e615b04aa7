"""The fields of a run by their full names ("optimizer.lr"): their types, checks and help.

jsonargparse reads values and words the help; what a user gets wrong becomes one sentence here.
"""

import argparse
import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jsonargparse

from ziggurat.config.checks import nearest
from ziggurat.config.tree import RUNS, TrainConfig
from ziggurat.errors import ZigguratError

Tree = dict[str, Any]

_ALTERNATIVES = (
    ("trainer.val_every_epochs", "trainer.val_every_steps"),
    ("schedule.warmup_epochs", "schedule.warmup_steps"),
    ("schedule.milestones", "schedule.milestone_steps"),
)
"""Fields that say the same in epochs and in steps: one of them takes the place of the other."""
_NOTHING = ("null", "0", "0.0", "[]")


def sections_of(task: str) -> dict[str, type]:
    """Name and dataclass of each section of a task's run."""
    hints = get_type_hints(RUNS[task])
    return {
        name: hint
        for name, hint in hints.items()
        if isinstance(hint, type) and dataclasses.is_dataclass(hint)
    }


def field_names(task: str) -> list[str]:
    """Full names of all fields of a task's run, in order."""
    return [
        f"{section}.{field.name}"
        for section, kind in sections_of(task).items()
        for field in dataclasses.fields(kind)
    ]


def check_known(tree: Mapping[str, Any], task: str, source: str) -> None:
    """Raise if a tree has a key that a run of this task has not.

    Args:
        tree: Sections of fields, as read from a file.
        task: Kind of run.
        source: Where the tree comes from, for the sentence.

    Raises:
        ZigguratError: If a key is unknown or a section is no mapping.
    """
    sections = sections_of(task)
    for section, content in tree.items():
        if section == "task":
            continue
        if section not in sections:
            raise ZigguratError(
                f"{source} has the unknown section {section!r}; "
                f"expected {', '.join(sections)}.{nearest(str(section), sections)}"
            )
        if not isinstance(content, Mapping):
            raise ZigguratError(
                f"section {section!r} of {source} must hold fields, got {content!r}"
            )
        known = [f"{section}.{field.name}" for field in dataclasses.fields(sections[section])]
        for name in content:
            check_name(f"{section}.{name}", known, task, source)


def check_name(name: str, known: Sequence[str], task: str, source: str) -> None:
    """Raise, with the nearest name, if a field is unknown.

    Args:
        name: Full name of the field.
        known: Full names there are.
        task: Kind of run.
        source: Where the name was used.

    Raises:
        ZigguratError: If it is unknown.
    """
    if name in known:
        return
    others = [other for other in RUNS if other != task and name in field_names(other)]
    hint = f" It belongs to {others[0]} runs." if others else nearest(name, known)
    raise ZigguratError(f"{source} has the unknown field {name!r} for a {task} run.{hint}")


def read_values(tree: Tree, overrides: Sequence[str], task: str, source: str) -> TrainConfig:
    """Make a run of a tree and of command-line overrides.

    An override in steps takes the place of what the tree says of the same in epochs, and the other
    way round.

    Args:
        tree: Sections of fields, with known names.
        overrides: "--section.field=value" words.
        task: Kind of run.
        source: Where the tree comes from, for the sentence.

    Raises:
        ZigguratError: If a value has the wrong type, is out of range, or is missing.
    """
    parser = _reader(task)
    sections = sections_of(task)
    complete = _completed(tree, overrides, sections, source)
    try:
        values = parser.parse_object(complete, defaults=False)
        values = parser.parse_args(list(overrides), namespace=values, defaults=False)
    except (argparse.ArgumentError, jsonargparse.ArgumentError) as error:
        raise ZigguratError(_sentence(str(error), sections, source)) from error
    content = values.as_dict()
    parts: dict[str, Any] = {
        name: kind(**(content.get(name) or {})) for name, kind in sections.items()
    }
    return RUNS[task](**parts)


def _completed(
    tree: Tree, overrides: Sequence[str], sections: Mapping[str, type], source: str
) -> Tree:
    """Take out what overrides replace, and add required fields that only they give.

    The parser wants all required fields at once.

    Raises:
        ZigguratError: If a required field is given nowhere.
    """
    given = dict(word[2:].split("=", 1) for word in overrides)
    complete = {name: dict(tree.get(name, {})) for name in sections}
    for one, other in (*_ALTERNATIVES, *(pair[::-1] for pair in _ALTERNATIVES)):
        if given.get(one, "null") not in _NOTHING:
            section, _, field_name = other.partition(".")
            complete[section].pop(field_name, None)  # its default is not to be used
    for name, kind in sections.items():
        for field in dataclasses.fields(kind):
            full_name = f"{name}.{field.name}"
            if not _is_required(field) or complete[name].get(field.name) is not None:
                continue
            if full_name not in given:
                raise ZigguratError(
                    f"{full_name} is missing in {source}; give it there or as --{full_name} VALUE"
                )
            complete[name][field.name] = given[full_name]
    return complete


def describe_fields(task: str, tree: Tree) -> str:
    """Return the help of every field: meaning, type and default.

    Args:
        task: Kind of run.
        tree: Values that stand in a recipe, shown as the defaults; {} for the general ones.
    """
    parser = _parser(task)
    for section, content in tree.items():
        if isinstance(content, Mapping):
            for name, value in content.items():
                parser.set_defaults({f"{section}.{name}": value})
    return parser.format_help()


@cache
def _reader(task: str) -> jsonargparse.ArgumentParser:
    """Build the parser that reads a task's runs, once: it costs more than what it reads."""
    return _parser(task)


def _parser(task: str) -> jsonargparse.ArgumentParser:
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(
        prog="ziggurat train", exit_on_error=False, add_help=False, usage=argparse.SUPPRESS
    )
    for name, kind in sections_of(task).items():
        parser.add_class_arguments(kind, name)
    for action in parser._actions:
        if action.dest in RUNS[task].__annotations__:
            # jsonargparse would also read a section from a file of its own; a run is one file.
            action.help = argparse.SUPPRESS
    return parser


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _sentence(message: str, sections: Mapping[str, type], source: str) -> str:
    """Turn a parser's message of several lines into one sentence."""
    match = re.search(r'[Kk]ey "(\w+)\.(\w+)', message)
    if match is None or match[1] not in sections:
        return f"{source} cannot be read: {' '.join(message.split())}"
    hint = get_type_hints(sections[match[1]])[match[2]]
    value = re.search(r"(?:Got value|Given value|but got|Got): ?(.*)", message)
    got = value[1].strip() if value else "something else"
    return f"{match[1]}.{match[2]} must be {type_in_words(hint)}, got {got!r}"


def type_in_words(hint: Any) -> str:  # noqa: ANN401  any annotation
    """Name a field's type as a user writes its values: "int or null"."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if get_origin(hint) is tuple:
        count = "any number" if arguments[-1] is Ellipsis else str(len(arguments))
        return f"a list of {count} of {type_in_words(arguments[0])}"
    if arguments:
        return " or ".join(type_in_words(argument) for argument in arguments)
    return "null" if hint is type(None) else str(hint.__name__)
