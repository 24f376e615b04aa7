"""`ziggurat train`: train a model by a recipe or a run file, every field of which can be set."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import ziggurat
from ziggurat.config.checks import nearest
from ziggurat.config.fields import describe_fields, field_names
from ziggurat.config.files import list_recipes, load_run, read_tree
from ziggurat.config.tree import RUNS, TrainConfig
from ziggurat.errors import ZigguratError, nearest_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb, and every field of every kind of run."""
    parser.usage = (
        "ziggurat train RECIPE | --config FILE [--output DIR] [--resume [auto]] "
        "[--SECTION.FIELD VALUE ...]"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder of the run (runs/RECIPE)"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        type=_auto,
        const=True,
        default=False,
        metavar="auto",
        help="go on with the run in --output where it stopped; auto begins one if there is none",
    )
    add_run_arguments(parser, "train")


def add_run_arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Declare what names a run: a recipe or a file, and every field of every kind of run.

    Args:
        parser: Parser of the verb.
        verb: The verb that takes a run.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        f"recipes:\n  {chr(10).join(list_recipes()).replace(chr(10), chr(10) + '  ')}\n\n"
        f"`ziggurat {verb} RECIPE --help` shows the recipe's values as the defaults."
    )
    # This --help takes the place of the one that every parser has.
    parser.add_argument(
        "-h", "--help", action=_Help, nargs=0, help="show this and every field, then leave"
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="name of a recipe, see below")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="run file to use instead of a recipe"
    )
    names = dict.fromkeys(name for task in RUNS for name in field_names(task))
    for name in names:
        parser.add_argument(f"--{name}", dest=name, metavar="VALUE", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> None:
    """Train, saying what happens.

    If it is not clear what to train, or it cannot be trained, a `ZigguratError` says why.
    """
    source = _source(args)
    output = args.output if args.output is not None else Path("runs") / Path(source).stem
    words = overrides(args)
    config = load_run(source, words)
    if not args.resume:
        _say_what_is_missing(source, config)
    ziggurat.train(
        config,
        output,
        resume=args.resume,
        is_recipe=source in list_recipes(),
        given=[word[2:].partition("=")[0] for word in words],
        say=_print_line,
    )


def _say_what_is_missing(source: str | Path, config: TrainConfig) -> None:
    """Say that a recipe begins without the weights that its published run starts from."""
    from ziggurat.inference.recipes import published_weights

    if source not in list_recipes() or config.model.weights or config.model.backbone_weights:
        return
    weights = published_weights(str(source))
    if weights is not None:
        _print_line(
            f"{source} starts anew, and its published run starts from ImageNet weights: add "
            f"--model.backbone_weights {weights} (`ziggurat list --weights` says where it is)"
        )


def _auto(word: str) -> str:
    if word != "auto":
        raise argparse.ArgumentTypeError(
            f"expected nothing or auto after it, got {word!r}; a recipe stands before --resume"
        )
    return word


def overrides(args: argparse.Namespace) -> list[str]:
    """Return the fields that were set on the command line, as `load_run` takes them.

    Args:
        args: What a parser with `add_run_arguments` gave.
    """
    return [
        f"--{name}={value}"
        for name, value in vars(args).items()
        if "." in name and value is not None
    ]


def named_source(args: argparse.Namespace) -> str | Path | None:
    """Return the recipe or file that was named, or None.

    Args:
        args: What a parser with `add_run_arguments` gave.

    Raises:
        ZigguratError: If both were named.
    """
    if args.recipe is not None and args.config is not None:
        raise ZigguratError(
            f"give a recipe or --config, not both; got {args.recipe!r} and {str(args.config)!r}"
        )
    return args.recipe if args.recipe is not None else args.config


def refuse_nameless(args: argparse.Namespace, verb: str) -> NoReturn:
    """Say that a command line names neither a recipe nor a file, and how it could.

    Args:
        args: What a parser with `add_run_arguments` gave.
        verb: The verb that takes a run.

    Raises:
        ZigguratError: Always.
    """
    from ziggurat.inference.recipes import recipes_of_task
    from ziggurat.zoo import combination_of, task_of

    model = vars(args)["model.name"] or ""
    recipes = recipes_of_task(task_of(model) if model else None)
    parts = combination_of(model)
    system = model if parts is None else parts.system
    of_system = [recipe for recipe in recipes if recipe.startswith(f"{system}_")]
    example = nearest_name(model, of_system or recipes) or (of_system or recipes)[0]
    command = " ".join(["ziggurat", verb, example, *overrides(args)])
    raise ZigguratError(
        f"say which run: a recipe, or --config FILE, has the values that are not on the command "
        f"line, for example `{command}`; `ziggurat list --recipes` prints the recipes"
    )


def _source(args: argparse.Namespace) -> str | Path:
    source = named_source(args)
    if source is not None:
        return source
    if not args.resume or args.output is None:
        refuse_nameless(args, "train")
    run_file: Path = args.output / "run.yaml"
    if not run_file.is_file():
        raise ZigguratError(
            f"--output {args.output} holds no run to resume: there is no {run_file}"
            + nearest(args.output.name, _runs_beside(args.output))
        )
    return run_file


def _runs_beside(output: Path) -> list[str]:
    parent = output.absolute().parent
    if not parent.is_dir():
        return []
    return [folder.name for folder in parent.iterdir() if (folder / "run.yaml").is_file()]


def _print_line(line: str) -> None:
    print(line, flush=True)


class _Help(argparse.Action):
    """Prints the verb's arguments, then every field of a run with its meaning and default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Print and leave; a recipe or file that stands before --help gives the defaults."""
        print(parser.format_help())
        source = namespace.recipe or namespace.config
        if source is not None:
            tree = read_tree(source)
            print(f"fields of {source}:\n")
            print(describe_fields(tree.pop("task"), tree))
        else:
            for task in RUNS:
                print(f"fields of a {task} run:\n")
                print(describe_fields(task, {}))
        parser.exit()
