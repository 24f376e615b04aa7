"""A million names in two tensors, which worker processes share however they are started."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor


class NameTable:
    """Byte strings one after another, and where each one ends.

    A list would be copied into every worker: looking at a Python object writes to its memory (the
    reference count). Tensors stay shared where a worker is forked, and torch moves them to shared
    memory where a worker is spawned.

    Args:
        text: All names in line.
        ends: Where each name ends.
    """

    def __init__(self, text: UInt8[Tensor, " bytes"], ends: Int64[Tensor, " N"]) -> None:
        self.text = text
        self.ends = ends

    @classmethod
    def of(cls, names: Iterable[bytes]) -> "NameTable":
        """Copy names, which may come from a generator."""
        text = bytearray()
        ends = []
        for name in names:
            text += name
            ends.append(len(text))
        return cls.from_bytes(text, np.array(ends, dtype=np.int64))

    @classmethod
    def from_bytes(cls, text: bytes | bytearray, ends: Int64[np.ndarray, " N"]) -> "NameTable":
        """Take over what a file has.

        Args:
            text: All names in line.
            ends: Where each name ends.
        """
        shared = np.frombuffer(bytearray(text), dtype=np.uint8)
        return cls(torch.from_numpy(shared), torch.from_numpy(ends.astype(np.int64)))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> bytes:
        start = int(self.ends[index - 1]) if index else 0
        return self.text[start : int(self.ends[index])].numpy().tobytes()

    def select(self, indices: Int64[np.ndarray, " M"]) -> "NameTable":
        """Return some of the names.

        Args:
            indices: Their numbers.
        """
        return NameTable.of(self[int(index)] for index in indices)
