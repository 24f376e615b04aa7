"""Golden files: weights that a formula makes from the names of their entries.

The official code of each family, run with such weights, gave the values that are kept here. Anybody
can make the file, so that a build of ziggurat can be held against the official code without a
download; and a file that is a golden one must give these values.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.ops.tensors import tensors_in

VALUES = Path(__file__).with_name("golden_values.json")
"""Some values of what the official code gave for each model, float32 on a CPU.

`tests/golden/test_verification.py` takes them from the golden cases.
"""


@dataclass(frozen=True)
class GoldenOutput:
    """What the official code gave in one tensor.

    Attributes:
        name: Its name in the golden case.
        stride: Every so many-th value is kept.
        values: The values.
    """

    name: str
    stride: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class GoldenValues:
    """What the official code gave.

    Attributes:
        case: Name of the golden case.
        input_shape: Shape of the images, whose values `golden_images` makes.
        tolerance: Largest relative distance that is one of rounding.
        outputs: The raw output of the model, tensor by tensor in the order that it has here.
    """

    case: str
    input_shape: tuple[int, ...]
    tolerance: float
    outputs: tuple[GoldenOutput, ...]


def golden_values(model: str, weights: Mapping[str, Tensor]) -> GoldenValues | None:
    """Return the values of a model with the weights of a golden file, or None if there are none.

    The same model has other weights where its entries have other names, as in another program.

    Args:
        model: Name of the model or of the backbone.
        weights: Entries of the file by their official names.
    """
    facts = _all_values().get(model)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    if facts is None or facts["entries"] != digest_of_entries(shapes):
        return None
    outputs = tuple(
        GoldenOutput(name, kept["stride"], tuple(kept["values"]))
        for name, kept in facts["outputs"].items()
    )
    return GoldenValues(facts["case"], tuple(facts["input_shape"]), facts["tolerance"], outputs)


def digest_of_entries(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return what tells the names and shapes of one file from those of any other.

    Args:
        shapes: Shape of each entry by its official name.
    """
    lines = sorted(f"{name} {list(shape)}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def golden_images(shape: tuple[int, ...]) -> Float[Tensor, "B C H W"]:
    """Return images that are the same everywhere.

    Args:
        shape: Images, channels, height, width.
    """
    draw = np.random.RandomState(0).standard_normal(shape)
    return torch.from_numpy(draw.astype(np.float32))


def golden_entry(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the value of an entry of a golden file.

    Args:
        name: Its official name.
        shape: Its shape in the file.
    """
    draw = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    noise = np.asarray(draw.standard_normal(shape), np.float32)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    values = _shaped(name, shape, noise)
    return torch.from_numpy(np.asarray(values, np.float32))


def _shaped(name: str, shape: tuple[int, ...], noise: np.ndarray) -> np.ndarray:
    """Turn noise into what an entry of that name may be, so that signals keep their size."""
    if name.endswith(("running_var", "_variance")):
        return 1 + 0.1 * np.abs(noise)
    if name.endswith(("running_mean", "_mean")):
        return 0.05 * noise
    if not shape:
        return np.full(shape, 0.1)
    if len(shape) == 1:
        return 1 + 0.1 * noise if name.endswith(("weight", "gamma")) else 0.05 * noise
    if len(shape) == 3 and shape[0] == 1:  # position embeddings, tokens
        return 0.02 * noise
    return noise / math.sqrt(math.prod(shape[1:]))


def is_golden(weights: Mapping[str, Tensor]) -> bool:
    """Tell whether every entry of a file has the value that the formula gives it.

    Args:
        weights: Entries by their official names.
    """
    # The smallest first: in any other file the first of them already differs.
    entries = sorted(weights.items(), key=lambda entry: entry[1].numel())
    return all(torch.equal(golden_entry(n, tuple(v.shape)), v) for n, v in entries)


def golden_error(model: nn.Module, values: GoldenValues) -> float:
    """Return how far the raw output of a model is from the official one, |a - b| / |b|.

    Args:
        model: A model or a backbone with the weights of a golden file.
        values: What the official code gave.

    Returns:
        The distance of the tensor that is farthest away; NaN where one holds NaN.
    """
    with torch.inference_mode():
        raw = model.eval()(golden_images(values.input_shape))
    distances = [
        _distance(ours, official)
        for ours, official in zip(tensors_in(raw), values.outputs, strict=True)
    ]
    return float(np.max(distances))  # unlike max(), NaN wherever one of them is


def _distance(tensor: Tensor, output: GoldenOutput) -> float:
    official = torch.tensor(output.values, dtype=torch.float64)
    ours = tensor.reshape(-1)[:: output.stride].double()
    return float((ours - official).norm() / official.norm())


@cache
def _all_values() -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = json.loads(VALUES.read_text(encoding="utf-8"))
    return content
