"""A run that goes on must find the data that it began with: labels are numbers in its weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ziggurat.engine.data import RunData
from ziggurat.errors import ZigguratError

DATA = "data"
"""Entry of a checkpoint with what it was trained on."""
SHOWN = 3


def describe_data(data: RunData) -> dict[str, Any]:
    """Return what a checkpoint keeps of the data of its run.

    Args:
        data: Data of the run.
    """
    return {
        "classes": list(data.classes),
        "keypoints": None if data.skeleton is None else list(data.skeleton.names),
        "training images": len(data.train),
    }


def check_same_data(before: dict[str, Any], data: RunData, folder: Path, root: str) -> None:
    """Raise unless a run finds the data that it began with, wherever they lie now.

    Args:
        before: What `describe_data` said of the data.
        data: Data of the run as they are now.
        folder: Folder of the run.
        root: Where the data lie now.

    Raises:
        ZigguratError: If classes, keypoints or the number of images have changed.
    """
    for name, now in describe_data(data).items():
        was = before.get(name, now)
        if was == now:
            continue
        is_count = isinstance(now, int)
        change = f"from {was} to {now}" if is_count else _difference(was or (), now or ())
        carried = "" if is_count else " --model.reset_classes true"
        raise ZigguratError(
            f"the {name} of {root} have changed since the run in {folder} began ({change}), it "
            "cannot go on with them; restore them, give --data.root, or begin a new run in "
            f"another --output, which --model.weights {folder / 'last.safetensors'}{carried} "
            "starts from these weights"
        )


def _difference(was: Sequence[str], now: Sequence[str]) -> str:
    gone = [f"{name!r} is gone" for name in was if name not in now]
    new = [f"{name!r} is new" for name in now if name not in was]
    if gone or new:
        more = len(gone) + len(new) - 2 * SHOWN
        return ", ".join([*gone[:SHOWN], *new[:SHOWN], *(["..."] if more > 0 else [])])
    number = next(i for i, names in enumerate(zip(was, now, strict=True)) if names[0] != names[1])
    return f"the same in another order: number {number} was {was[number]!r} and is {now[number]!r}"
