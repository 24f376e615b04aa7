"""Golden cases: official names and values, weights that a formula makes from the names.

`data/*.json` describe a case, `data/*.npz` hold what the official code gave, every `stride`-th
value of each output. Made in float32 on a CPU.
"""

import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ziggurat.checkpoints.matching import nearest_layout, shapes_of
from ziggurat.checkpoints.official import _layouts
from ziggurat.models.detector import Detector
from ziggurat.models.semantic_segmenter import SemanticSegmenter

DATA = Path(__file__).parent / "data"


def fill(name: str, shape: list[int]) -> Tensor:
    """The value of the official entry `name`, the same in every implementation."""
    draw = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    values: NDArray[Any] = np.asarray(draw.standard_normal(shape), np.float32)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if name.endswith(("running_var", "_variance")):
        values = 1 + 0.1 * np.abs(values)
    elif name.endswith(("running_mean", "_mean")):
        values = 0.05 * values
    elif not shape:
        values = np.full(shape, 0.1)
    elif len(shape) == 1:
        values = 1 + 0.1 * values if name.endswith(("weight", "gamma")) else 0.05 * values
    elif len(shape) == 3 and shape[0] == 1:  # position embeddings and tokens
        values = 0.02 * values
    else:
        values = values / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, np.float32))


def _sharpen_queries_and_keys(in_proj: Tensor) -> Tensor:
    return torch.cat((10 * in_proj[:512], in_proj[512:]))


OVERRIDES: dict[str, Callable[[Tensor], Tensor]] = {
    "fill * 0.2": lambda value: 0.2 * value,
    "fill * 6": lambda value: 6 * value,
    "fill * 16": lambda value: 16 * value,
    "0.5 + 0.25*tanh(2*fill)": lambda value: 0.5 + 0.25 * torch.tanh(2 * value),
    "fill with its first 512 rows (the q and k blocks) multiplied by 10; rows 512..767 (v) "
    "unchanged": _sharpen_queries_and_keys,
}
"""What the `weight_overrides` of a case say in words, done to the value of `fill`."""


class GoldenCase:
    """One pair of files."""

    def __init__(self, name: str) -> None:
        self.facts: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
        self.values = np.load(DATA / f"{name}.npz")

    def weights(self) -> dict[str, Tensor]:
        """The official state dict, made from the names and shapes of its entries."""
        weights = {
            # Two names of one module of the Feature Pyramid Transformer.
            name: fill(name.replace("conv_ks", "conv_qs"), shape)
            for name, shape, _ in self.facts["entries"]
        }
        for pattern, words in self.facts.get("weight_overrides", {}).items():
            names = [name for name in weights if re.search(pattern, name)]
            assert names, f"no entry is called {pattern}"
            weights |= {name: OVERRIDES[words](weights[name]) for name in names}
        return weights

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


_PATCH_CONVS = [
    f"backbone.patch_embed.convs.{number}"
    for conv in (0, 3)
    for number in (
        f"{conv}.weight",
        f"{conv + 1}.weight",
        f"{conv + 1}.bias",
        f"{conv + 1}.running_mean",
        f"{conv + 1}.running_var",
        f"{conv + 1}.num_batches_tracked",
    )
]
"""Of GPViTs larger than L1."""


def hash_entries(
    model: Detector | SemanticSegmenter,
    names: Sequence[str],
    unused: Mapping[str, Sequence[int]] | None = None,
) -> str:
    """Hash names and shapes of a model's official state dict, in order, as `all_configs.json` does.

    Args:
        model: Says how many blocks there are, and the shape of each entry.
        names: Official names of the same system of any size, in order.
        unused: Shapes of official entries that ours has not.
    """
    own = shapes_of(model.state_dict())
    table = nearest_layout(_layouts(model), own, dict.fromkeys(names))
    unused = unused or {}

    def is_there(name: str) -> bool:
        return name in unused or table.own_name(name) in own

    lines = []
    for name in names_of_size(names, is_there):
        shape = unused[name] if name in unused else own[table.own_name(name) or name]
        lines.append(f"{name}:{','.join(str(side) for side in shape)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def names_of_size(names: Sequence[str], is_there: Callable[[str], bool]) -> list[str]:
    """Turn the names of a system into those of another size of its backbone.

    A stage has as many blocks as are there. The larger GPViTs have further convolutions in front of
    the projection of their patches.
    """
    found: list[str] = []
    for stage, group in groupby(names, _stage_of):
        if stage:
            first = f"{stage}0."
            ends = [name.removeprefix(first) for name in group if name.startswith(first)]
            number = 0
            while is_there(f"{stage}{number}.{ends[0]}"):
                found += [f"{stage}{number}.{end}" for end in ends]
                number += 1
            continue
        for name in group:
            if name == "backbone.patch_embed.projection.weight":
                found += [conv for conv in _PATCH_CONVS if is_there(conv)]
            found.append(name)
    return found


def _stage_of(name: str) -> str:
    found = re.match(r"(backbone\.block\d\.)\d", name)
    return found[1] if found else ""


@pytest.fixture(scope="session")
def hash_of_entries() -> Callable[..., str]:
    """Return `hash_entries`."""
    return hash_entries
