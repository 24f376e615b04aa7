"""Tensors are found in all that modules take and give."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ziggurat.ops.tensors import tensors_in


class Raw(NamedTuple):
    logits: list[Tensor]
    name: str


@dataclass(frozen=True)
class Holder:
    first: Tensor
    second: dict[str, object]


def test_tensors_come_in_the_order_of_what_holds_them() -> None:
    a, b, c, d = (torch.tensor(float(number)) for number in range(4))
    holder = Holder(a, {"raw": Raw([b, c], "text"), "none": None, "last": (d, 3)})
    assert [float(tensor) for tensor in tensors_in(holder)] == [0.0, 1.0, 2.0, 3.0]
    assert [*tensors_in(a)] == [a]


def test_what_holds_none() -> None:
    values: tuple[object, ...] = (None, "text", 1.5, Holder, torch.Size([2, 3]), {})
    for value in values:
        assert [*tensors_in(value)] == []
