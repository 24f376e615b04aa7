"""`ziggurat VERB ...`: find the verb, parse, run it, and turn a user's error into one sentence.

A verb is a module of this package with `add_arguments(parser)` and `run(args)`; only the one that
is asked for is imported, so that the others' dependencies cost nothing.
"""

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import NoReturn

from ziggurat.errors import ZigguratError, nearest_name

VERBS = {
    "train": "train a model by a recipe or a run file",
    "evaluate": "measure a trained model on a data set",
    "report": "one page about a training run, after it or while it goes on",
    "compare": "results, settings and curves of several runs side by side",
    "predict": "find objects, classes or the class of every pixel in photos and videos",
    "list": "models with size, cost and published accuracy; recipes; published weights",
    "data": "check, convert or pack a data set, or make a synthetic one",
    "demo": "train and evaluate on synthetic data, one page of results at the end",
    "convert": "turn an official checkpoint into a weight file",
    "verify": "whether a weight file is what it claims: entries, hash, output, accuracy",
    "bench": "speed and memory on this machine, beside its peak and other libraries",
    "doctor": "a minute of checks of a run before it begins",
}


class Parser(argparse.ArgumentParser):
    """Raises errors instead of printing them; knows no abbreviated options."""

    def __init__(  # argparse makes the parsers of a verb's actions with these
        self, prog: str | None = None, description: str | None = None, epilog: str | None = None
    ) -> None:
        super().__init__(
            prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            conflict_handler="resolve",  # a verb may bring its own --help
        )

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong.

        Raises:
            ZigguratError: Always.
        """
        raise ZigguratError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    What cannot be encoded, as a file name that is no UTF-8, is printed as an escape.

    Args:
        argv: Words after `ziggurat`; by default those of the process.

    Returns:
        The exit code: 0, 1 after an error, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        _dispatch(words)
    except ZigguratError as error:
        print(f"ziggurat: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"ziggurat: {str(error) or 'stopped'}", file=sys.stderr)
        return 130
    except SystemExit as error:
        # argparse leaves so after --help.
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does; nobody is left to tell.
        sys.stderr.close()
        return 1
    return 0


def _dispatch(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return
    if words[0] == "--version":
        from ziggurat import __version__

        print(__version__)
        return
    verb = words[0]
    if verb not in VERBS:
        near = nearest_name(verb, VERBS)
        hint = f"did you mean {near}?" if near else f"expected one of {', '.join(VERBS)}"
        raise ZigguratError(f"unknown command {verb!r}; {hint}")
    module = import_module(f"ziggurat.cli.{verb}")
    parser = Parser(prog=f"ziggurat {verb}", description=(module.__doc__ or "").split("\n\n")[0])
    module.add_arguments(parser)
    args, unknown = parser.parse_known_args([_with_home(word) for word in words[1:]])
    if unknown:
        raise ZigguratError(_describe_unknown(unknown[0], parser))
    module.run(args)


def _with_home(word: str) -> str:
    """Write out the home folder in a path: shells leave the `~` of `--output=~/run` alone."""
    name, equals, value = word.partition("=")
    if name.startswith("--"):
        return f"{name}{equals}{os.path.expanduser(value)}"
    return os.path.expanduser(word)


def _describe_unknown(word: str, parser: argparse.ArgumentParser) -> str:
    name = word.partition("=")[0]
    near = _nearest_option(name, set(_options(parser)) - {name})
    hint = f" did you mean {near}?" if near else f" see `{parser.prog} --help`"
    kind = "option" if name.startswith("-") else "argument"
    return f"unknown {kind} {name!r};{hint}"


def _nearest_option(name: str, options: set[str]) -> str | None:
    """Return the option that an unknown one is most like: --optimizer.lr for --lr, too."""
    fields = {option.rpartition(".")[2]: option for option in options if "." in option}
    field = name.lstrip("-")
    if field in fields:
        return fields[field]
    return nearest_name(name, options) or fields.get(nearest_name(field, fields) or "")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All options of a parser and of its actions' parsers.

    Yields:
        Options with their dashes.
    """
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _options(child)


def _overview() -> str:
    lines = [f"  {verb:<10} {meaning}" for verb, meaning in VERBS.items()]
    return "\n".join(
        [
            "usage: ziggurat COMMAND [ARGUMENTS]",
            "",
            "Pyramid vision transformers: train, evaluate, predict.",
            "",
            *lines,
            "",
            "`ziggurat COMMAND --help` says more.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
