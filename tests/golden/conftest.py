"""Golden cases: official names and values, weights that a formula makes from the names.

`data/*.json` describe a case, `data/*.npz` hold what the official code gave, every `stride`-th
value of each output. Made in float32 on a CPU.
"""

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

DATA = Path(__file__).parent / "data"


def fill(name: str, shape: list[int]) -> Tensor:
    """The value of the official entry `name`, the same in every implementation."""
    draw = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    values = draw.standard_normal(shape).astype(np.float32)
    if len(shape) == 1:
        values = 1 + 0.1 * values if name.endswith("weight") else 0.05 * values
    else:
        values = values / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(values.astype(np.float32))


class GoldenCase:
    """One pair of files."""

    def __init__(self, name: str) -> None:
        self.facts: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
        self.values = np.load(DATA / f"{name}.npz")

    def weights(self) -> dict[str, Tensor]:
        """The official state dict, made from the names and shapes of its entries."""
        return {name: fill(name, shape) for name, shape, _ in self.facts["entries"]}

    def file(self, folder: Path) -> Path:
        """The official file: the state dict under the key where the official code puts it."""
        wrapper = self.facts["checkpoint_wrapper"]
        path = folder / f"{self.facts['model']}.pth"
        torch.save({wrapper: self.weights()} if wrapper else self.weights(), path)
        return path

    def images(self) -> Tensor:
        """The input batch of the case."""
        draw = np.random.RandomState(0)
        return torch.from_numpy(draw.standard_normal(self.facts["input_shape"]).astype(np.float32))

    def unit_input(self, name: str) -> Tensor:
        """One of the inputs that a unit case lists."""
        rule = self.facts["inputs"][name]
        draw = np.random.RandomState(rule["seed"]).standard_normal(rule["shape"])
        values = draw.astype(np.float32) * np.float32(rule["scale"]) + np.float32(rule["shift"])
        return torch.from_numpy(values)

    def error(self, output: str, ours: Tensor) -> float:
        """Relative L2 distance |ours - official| / |official|."""
        facts = self.facts["outputs"][output]
        assert list(ours.shape) == facts["shape"], f"{output}: {tuple(ours.shape)}"
        mine = ours.detach().reshape(-1)[:: facts["stride"]].double().numpy()
        official = self.values[output].astype(np.float64).reshape(-1)
        return float(np.linalg.norm(mine - official) / np.linalg.norm(official))


@pytest.fixture(scope="session")
def golden() -> Callable[[str], GoldenCase]:
    """Return the case of a name."""
    return GoldenCase
