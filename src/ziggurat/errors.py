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
    return next(iter(nearest_names(name, known, 1)), None)


def nearest_names(name: str, known: Iterable[str], count: int) -> list[str]:
    """Return the known names that an unknown one is most like, the nearest first.

    Args:
        name: What was given.
        known: What there is.
        count: The most that are returned; those that are not near are left out.
    """
    return get_close_matches(name, list(known), n=count)


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
