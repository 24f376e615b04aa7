"""The one kind of error that a user's input can cause, and what its sentence may suggest."""

from collections.abc import Iterable
from difflib import get_close_matches


class ZigguratError(ValueError):
    """Says in one sentence what is wrong, what was got, what was expected and what to do.

    The command line prints the sentence and exits with 1; every other exception is a defect of
    ziggurat and keeps its traceback.
    """


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that an unknown one is most like, or None where none is near.

    Args:
        name: What was given.
        known: What there is.
    """
    return next(iter(get_close_matches(name, list(known), n=1)), None)


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return the end of a sentence about an unknown name.

    Args:
        name: What was given.
        known: What there is.
        otherwise: The end where no known name is near.
    """
    near = nearest_name(name, known)
    return otherwise if near is None else f"did you mean {near!r}?"


def check_known(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise unless a name is known, with the nearest name in the message.

    Args:
        kind: What the name is of.
        name: What was given.
        known: What there is.

    Raises:
        ZigguratError: If the name is unknown.
    """
    names = list(known)
    if name not in names:
        hint = did_you_mean(name, names, f"known are {', '.join(names)}")
        raise ZigguratError(f"unknown {kind} {name!r}; {hint}")
