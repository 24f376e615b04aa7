"""Read foreign weights safely: from a path to names and tensors, whatever wraps them.

Official files are plain mappings, or {"model": ...}, or {"state_dict": ..., "meta": ...}; names may
carry the `module.` of a parallel run.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ziggurat.checkpoints.pickled import read_pickled
from ziggurat.checkpoints.tensor_file import first_bytes, is_safetensors, read_safetensors
from ziggurat.errors import ZigguratError

WRAPPERS = ("state_dict", "model", "state_dict_ema", "model_ema")
"""Keys under which files keep weights. The published numbers are those of the plain weights, so
averaged ones are taken only where a file has nothing else."""

PARALLEL_PREFIX = "module."


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Return the weights of an official file by their official names; nothing in it is run.

    Tensors may stay on disk until they are used: copy them, and leave the file alone until then.
    A file that is missing, empty, truncated, no checkpoint, wants to run code or holds values
    that are not finite is a `ZigguratError`.

    Args:
        path: A .pth or .pt file of `torch.save`, or a .safetensors file.
    """
    path = Path(path)
    head = first_bytes(path)
    if is_safetensors(path, head):
        return select_weights(read_safetensors(path)[1], str(path))
    return select_weights(read_pickled(path, head), str(path))


def select_weights(content: object, where: str) -> dict[str, Tensor]:
    """Unwrap the weights of a loaded checkpoint and check each of them.

    Args:
        content: A mapping of names to tensors, or one that holds it under a usual key.
        where: How error messages call the source.

    Raises:
        ZigguratError: If there are no weights, or entries that are no usable tensors.
    """
    if isinstance(content, Mapping):
        wrapped = [content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        content = wrapped[0] if wrapped else content
    if not isinstance(content, Mapping) or not content:
        found = "an empty mapping" if isinstance(content, Mapping) else type(content).__name__
        raise ZigguratError(
            f"{where} holds no weights: expected a mapping of names to tensors, got {found}; "
            "give the file that the model's authors published"
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ZigguratError(
                f"{where} holds no plain weights: entry {name!r} is a {type(value).__name__}, "
                f"expected a tensor; weights are looked for under {', '.join(WRAPPERS)}"
            )
        check_values(name, value, where)
    weights: dict[str, Tensor] = dict(content)
    if all(name.startswith(PARALLEL_PREFIX) for name in weights):
        weights = {name.removeprefix(PARALLEL_PREFIX): value for name, value in weights.items()}
    return weights


def check_values(name: str, value: Tensor, where: str) -> None:
    """Raise unless a tensor holds real, finite numbers that are really there.

    Raises:
        ZigguratError: If it is sparse, quantized, complex, larger than its storage, or holds NaN.
    """
    if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_complex():
        raise ZigguratError(
            f"entry {name!r} of {where} is no plain tensor of real numbers (got {value.dtype}, "
            f"{value.layout}, on {value.device}); save it as ordinary float32"
        )
    # A few bytes can be declared to be a tensor of any size (stride 0): never expand those.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ZigguratError(
            f"entry {name!r} of {where} claims the shape {tuple(value.shape)} but holds only "
            f"{value.untyped_storage().nbytes()} bytes; get the file from its source again"
        )
    if value.is_floating_point() and not _is_finite(value):
        raise ZigguratError(
            f"entry {name!r} of {where} holds NaN or infinite values; the file is damaged or its "
            "training diverged, use another one"
        )


def _is_finite(value: Tensor) -> bool:
    # 8-bit floats know no isfinite; their values are exact in 32 bits.
    value = value.float() if value.element_size() == 1 else value
    return bool(torch.isfinite(value).all())
