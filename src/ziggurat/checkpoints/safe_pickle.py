"""Read pickles of arrays and plain containers, as Paddle and Detectron write them, and no others.

A pickle is a program for a small machine that can call any function by its name. Here every name is
looked up in one table of inert stand-ins; one that is not in it ends the reading.
"""

import argparse
import pickle
import pickletools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from ziggurat.checkpoints.pickle_cost import check_cost
from ziggurat.checkpoints.stored_arrays import STAND_INS
from ziggurat.errors import ZigguratError

INERT: dict[str, Callable[..., object]] = {
    **STAND_INS,
    # Settings of the run that trained the weights.
    "argparse.Namespace": argparse.Namespace,
}
"""What both kinds of pickle may name, beside containers and, in those of torch, tensors."""

KNOWN: dict[str, Callable[..., object]] = INERT | {
    "collections.OrderedDict": dict,
    "builtins.tuple": tuple,
    "__builtin__.tuple": tuple,
}
"""All that a pickle without torch may name."""


class RefusedName(pickle.UnpicklingError):
    """A pickle asked for something that is not in the table."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """Look a name up, in the table and nowhere else.

        Raises:
            RefusedName: If it is not there.
        """
        wanted = f"{module}.{name}"
        if wanted not in KNOWN:
            raise RefusedName(wanted)
        return KNOWN[wanted]


def read_pickle(path: Path) -> object:
    """Return what a pickle holds: plain containers, numbers, text and NumPy arrays.

    Args:
        path: The file.

    Raises:
        ZigguratError: If it is truncated, no pickle, costs too much, or asks for anything else.
    """
    with open(path, "rb") as file:
        try:
            check_cost(file, path.stat().st_size, path)
            file.seek(0)
            # Python 2 has no bytes: what it stores as text may be the content of an array.
            return _Unpickler(file, encoding="latin1").load()
        except RefusedName as error:
            file.seek(0)
            names = {str(error), *requested_names(file)}
            raise ZigguratError(refusal(path, sorted(names - set(KNOWN)))) from error
        except ZigguratError:
            raise
        except UnicodeDecodeError as error:
            raise ZigguratError(
                f"{path} is a pickle of Python 2 in the text protocol 0, which cannot be followed "
                "before it runs; write it with protocol 2, as Detectron does"
            ) from error
        except Exception as error:  # a damaged or hostile file may fail in any way
            raise ZigguratError(_damage(path, error)) from error


def refusal(path: Path, names: Sequence[str]) -> str:
    """Say that a file asks for more than tensors and plain data."""
    shown = ", ".join(dict.fromkeys(names[:3]))
    return (
        f"{path} was refused and nothing in it was run: on opening it asks for {shown}, but a "
        "checkpoint may hold only tensors and plain data; get a file with a plain state dict, "
        "from a source that you trust"
    )


def requested_names(program: bytes | IO[bytes]) -> Iterator[str]:
    """List the functions and classes that a pickle names, by reading, not by running.

    The names of protocol 4, which stand on the machine's stack, are found only if they were put
    there right before.

    Yields:
        Each name with the module in front.
    """
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def _damage(path: Path, error: Exception) -> str:
    with open(path, "rb") as file:
        head = file.read(24)
    if head.startswith(b"\x80"):
        return (
            f"{path} is truncated or damaged ({type(error).__name__} while reading it: {error}); "
            "download or save it again"
        )
    return (
        f"{path} is not a checkpoint: expected a .pth, .pt, .safetensors, .pdparams or .pkl file, "
        f"got one that begins with {head!r}; check that the download gave the file and not a page"
    )
