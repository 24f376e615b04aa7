"""Tensors inside of other values, and who else computes with them."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass

import torch
from torch import Tensor


def is_transformed() -> bool:
    """Tell whether `torch.func` transforms what is computed; our own gradients are not for it."""
    return bool(torch._C._are_functorch_transforms_active())


def tensors_in(value: object) -> Iterator[Tensor]:
    """Find the tensors in what a module takes or gives, in the order in which it has them.

    Args:
        value: A tensor, or a mapping, a list, a tuple or a dataclass of such values; anything else
            holds none.

    Yields:
        Each of them.
    """
    if isinstance(value, Tensor):
        yield value
        return
    parts: list[object] | tuple[object, ...] = ()
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, list | tuple):
        parts = value
    elif is_dataclass(value) and not isinstance(value, type):
        parts = list(vars(value).values())
    for part in parts:
        yield from tensors_in(part)
