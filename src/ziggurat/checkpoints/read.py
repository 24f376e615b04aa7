"""Read foreign weights safely: from a path to names and tensors, whatever wraps them.

Official files are plain mappings, or {"model": ...}, {"state_dict": ..., "meta": ...} or
{"blobs": ...}; names may carry the `module.` of a parallel run. Files of training runs may hold the
weights twice, as they were last and averaged over the run (EMA).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ziggurat.checkpoints.class_names import stored_classes
from ziggurat.checkpoints.mapped import Release, keep, release_of
from ziggurat.checkpoints.paddle import without_paddle_metadata
from ziggurat.checkpoints.pickled import is_torch_file, read_pickled
from ziggurat.checkpoints.safe_pickle import read_pickle
from ziggurat.checkpoints.tensor_file import first_bytes, is_safetensors, read_safetensors
from ziggurat.errors import ZigguratError

WRAPPERS = ("state_dict", "model", "blobs")
"""Keys under which files keep weights."""

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict")
"""Keys under which files keep averaged weights."""

COUNTERS = ("n_averaged", "steps")
"""Entries of averaged weights in PyTorch's and MMEngine's layout that say how often they grew."""

PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")
"""What `torch.compile` and parallel training put before every name, in either order."""


@dataclass(frozen=True)
class StoredWeights:
    """Weights that may still lie in their file.

    Attributes:
        tensors: The entries by their official names.
        release: To be called with a tensor that has been read or copied.
        classes: Names of the classes, where the file has them.
        has_unused_average: Whether the file also holds averaged weights, which were not asked for.
    """

    tensors: dict[str, Tensor]
    release: Release
    classes: tuple[str, ...] | None = None
    has_unused_average: bool = False


def read_checkpoint(path: str | Path, *, use_ema: bool = False) -> dict[str, Tensor]:
    """Return the weights of an official file by their official names; nothing in it is run.

    Tensors may stay on disk until they are used: copy them, and leave the file alone until then.
    A file that is missing, empty, truncated, no checkpoint, wants to run code or holds values
    that are not finite is a `ZigguratError`.

    Args:
        path: A file of `torch.save` (.pth, .pt), a .safetensors file, or a pickle of NumPy arrays
            as Paddle (.pdparams) and Detectron (.pkl) write it.
        use_ema: Take the weights that were averaged over the training.
    """
    return read_stored(path, use_ema=use_ema).tensors


def read_stored(path: str | Path, *, use_ema: bool = False) -> StoredWeights:
    """Return what `read_checkpoint` does, and how to give the memory of each tensor back.

    Args:
        path: The file.
        use_ema: Take the weights that were averaged over the training.
    """
    path = Path(path)
    head = first_bytes(path)
    if is_safetensors(path, head):
        content: object = read_safetensors(path)[1]
    elif is_torch_file(head):
        content = read_pickled(path, head)
    else:
        content = read_pickle(path)
    weights = _unwrap(content, str(path), use_ema)
    release, size = release_of(path), path.stat().st_size
    for name, value in weights.items():
        check_values(name, value, str(path), stored_bytes=size)
        release(value)
    return StoredWeights(weights, release, _classes_of(content), _is_averaged(content) > use_ema)


def select_weights(content: object, where: str, *, use_ema: bool = False) -> dict[str, Tensor]:
    """Unwrap the weights of a loaded checkpoint and check each of them.

    Args:
        content: A mapping of names to tensors or NumPy arrays, or one that holds it under a usual
            key.
        where: How error messages call the source.
        use_ema: Take the weights that were averaged over the training.
    """
    weights = _unwrap(content, where, use_ema)
    for name, value in weights.items():
        check_values(name, value, where)
    return weights


def given(content: Mapping[str, object], where: str, *, use_ema: bool = False) -> StoredWeights:
    """Return weights that are in memory already, as `read_stored` returns those of a file.

    Args:
        content: What `select_weights` takes.
        where: How error messages call the source.
        use_ema: Take the weights that were averaged over the training.
    """
    weights = select_weights(content, where, use_ema=use_ema)
    return StoredWeights(weights, keep, _classes_of(content), _is_averaged(content) > use_ema)


def check_values(name: str, value: Tensor, where: str, stored_bytes: int | None = None) -> None:
    """Raise unless a tensor holds real, finite numbers that are really there.

    Args:
        name: What the entry is called.
        value: The entry.
        where: How the error message calls the source.
        stored_bytes: Size of the file that it is from; nothing in it can be larger.

    Raises:
        ZigguratError: If it is sparse, quantized, complex, larger than its storage, or holds NaN.
    """
    if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_complex():
        raise ZigguratError(
            f"entry {name!r} of {where} is no plain tensor of real numbers (got {value.dtype}, "
            f"{value.layout}, on {value.device}); save it as ordinary float32"
        )
    # A few bytes can be declared to be a tensor of any size (stride 0): never expand those.
    held = value.untyped_storage().nbytes()
    held = held if stored_bytes is None else min(held, stored_bytes)
    if value.numel() * value.element_size() > held:
        raise ZigguratError(
            f"entry {name!r} of {where} claims the shape {tuple(value.shape)} but holds only "
            f"{held} bytes; get the file from its source again"
        )
    if value.is_floating_point() and not is_finite(value):
        raise ZigguratError(
            f"entry {name!r} of {where} holds NaN or infinite values; the file is damaged or its "
            "training diverged, use another one"
        )


def is_finite(value: Tensor) -> bool:
    """Tell whether a tensor of real numbers holds neither NaN nor infinity."""
    if not value.numel():
        return True
    # 8-bit floats have no order; their values are exact in 32 bits.
    value = value.float() if value.element_size() == 1 else value
    # NaN is both the least and the greatest of any values. `isfinite` would make copies.
    return all(math.isfinite(extreme) for extreme in torch.aminmax(value))


def _unwrap(content: object, where: str, use_ema: bool) -> dict[str, Tensor]:
    """Find the weights of a loaded checkpoint.

    Raises:
        ZigguratError: If there are none, or entries that are no tensors.
    """
    outer = _entries(content)
    if not outer:
        found = "an empty mapping" if outer is not None else type(content).__name__
        raise ZigguratError(_no_weights(where, found))
    plain = [key for key in WRAPPERS if _entries(outer.get(key)) is not None]
    averaged = [key for key in AVERAGED if _entries(outer.get(key)) is not None]
    if use_ema and not averaged:
        raise ZigguratError(
            f"{where} has no averaged weights, which are looked for under {', '.join(AVERAGED)}; "
            "leave the choice of EMA out to get the plain ones"
        )
    if averaged and not plain and not use_ema:
        raise ZigguratError(
            f"{where} holds averaged weights only, under {averaged[0]!r}; ask for them with "
            "`use_ema=True`, on the command line `--ema`, in a run `--model.use_ema true`"
        )
    if _is_average_in_front(outer):
        averaged = ["state_dict"]
    key = averaged[0] if use_ema else plain[0] if plain else None
    inner = _entries(outer[key]) if key is not None else outer
    if not inner:
        raise ZigguratError(_no_weights(where, "an empty mapping"))
    entries = without_paddle_metadata(inner, where)
    # One array under many names stays one: what converts it copies it.
    tensors: dict[int, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for name, value in entries.items():
        if not isinstance(name, str):
            raise ZigguratError(
                f"{where} holds no plain weights: the name of an entry is a {type(name).__name__}, "
                f"expected text; weights are looked for under {', '.join(WRAPPERS)}"
            )
        if id(value) not in tensors:
            tensors[id(value)] = _as_tensor(name, value, where)
        weights[name] = tensors[id(value)]
    if use_ema and all(name.startswith("module.") or name in COUNTERS for name in weights):
        weights = {name: value for name, value in weights.items() if name not in COUNTERS}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _entries(content: object) -> dict[Any, Any] | None:
    if isinstance(content, dict):
        # Not by its own methods: a file may have put attributes in front of them.
        return dict(dict.items(content))
    return dict(content) if isinstance(content, Mapping) else None


def _is_averaged(content: object) -> bool:
    outer = _entries(content) or {}
    has_average = any(_entries(outer.get(key)) is not None for key in AVERAGED)
    return has_average and not _is_average_in_front(outer)


def _is_average_in_front(outer: Mapping[Any, Any]) -> bool:
    """Tell whether a file is MMEngine's, which saves the average where others have the weights.

    Beside it, under "ema_state_dict", are the weights that it is the average of, and their number.
    """
    swapped = _entries(outer.get("ema_state_dict"))
    return swapped is not None and "state_dict" in outer and "steps" in swapped


def _classes_of(content: object) -> tuple[str, ...] | None:
    return stored_classes((_entries(content) or {}).get("meta"))


def _no_weights(where: str, found: str) -> str:
    return (
        f"{where} holds no weights: expected a mapping of names to tensors, got {found}; "
        "give the file that the model's authors published"
    )


def _as_tensor(name: str, value: object, where: str) -> Tensor:
    """Return a tensor that shares the memory of an entry.

    Raises:
        ZigguratError: If the entry is neither a tensor nor an array of numbers.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        # torch takes neither bytes in the other order nor negative steps nor what is read-only.
        return torch.from_numpy(np.require(value, value.dtype.newbyteorder("="), ("C", "W")))
    raise ZigguratError(
        f"{where} holds no plain weights: entry {name!r} is a {type(value).__name__}, "
        f"expected a tensor; weights are looked for under {', '.join(WRAPPERS)}"
    )
