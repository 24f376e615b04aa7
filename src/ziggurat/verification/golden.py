"""Golden files: weights that a formula makes from the names of their entries.

The official code of each family, run with such weights, gave the values that are kept here. Anybody
can make the file, so that a build of ziggurat can be held against the official code without a
download; and a file that is a golden one must give these values.
"""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

VALUES = Path(__file__).with_name("golden_values.json")
"""For each model every 25th logit of the official code, float32 on a CPU."""

TOLERANCE = 2e-5


@dataclass(frozen=True)
class GoldenValues:
    """What the official code gave.

    Attributes:
        case: Name of the golden case.
        input_shape: Shape of the images, whose values `golden_images` makes.
        stride: Every so many-th value is kept.
        logits: The values.
    """

    case: str
    input_shape: tuple[int, ...]
    stride: int
    logits: tuple[float, ...]


def golden_values(model: str) -> GoldenValues | None:
    """Return the values of a model, or None if there are none for it.

    Args:
        model: Name of the model.
    """
    facts = _all_values().get(model)
    if facts is None:
        return None
    return GoldenValues(
        facts["case"], tuple(facts["input_shape"]), facts["stride"], tuple(facts["logits"])
    )


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
    """Return how far the logits of a model are from the official ones, |a - b| / |b|.

    Args:
        model: A classifier with the weights of a golden file.
        values: What the official code gave.
    """
    with torch.inference_mode():
        logits: Tensor = model.eval()(golden_images(values.input_shape))
    official = torch.tensor(values.logits, dtype=torch.float64)
    ours = logits.reshape(-1)[:: values.stride].double()
    return float((ours - official).norm() / official.norm())


@cache
def _all_values() -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = json.loads(VALUES.read_text(encoding="utf-8"))
    return content
