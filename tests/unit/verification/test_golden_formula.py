"""Golden files: the formula of their entries, and how far a model is from the official code."""

import math

import pytest
import torch

import ziggurat
from ziggurat.verification.golden import (
    GoldenOutput,
    GoldenValues,
    digest_of_entries,
    golden_entry,
    golden_error,
    golden_images,
    is_golden,
)


@pytest.fixture(autouse=True, scope="module")
def listed_mini(p2t_mini: str) -> str:
    return p2t_mini


def test_golden_entries_are_recognised() -> None:
    weights = {name: golden_entry(name, shape) for name, shape in (("a.bias", (3,)), ("b", (2, 2)))}
    assert is_golden(weights)
    assert not is_golden(weights | {"a.bias": torch.zeros(3)})


@pytest.mark.parametrize(
    ("name", "shape", "check"),
    [
        ("n.num_batches_tracked", (), lambda v: v.dtype == torch.int64 and v == 0),
        ("n.running_var", (50,), lambda v: v.min() >= 1),
        ("n.running_mean", (50,), lambda v: v.abs().max() < 0.3),
        ("n.weight", (50,), lambda v: 0.9 < v.mean() < 1.1),
        ("n.bias", (50,), lambda v: v.abs().mean() < 0.1),
        ("scale", (), lambda v: v == torch.tensor(0.1)),
        ("pos_embed", (1, 50, 4), lambda v: 0.01 < v.std() < 0.03),
        ("conv.weight", (8, 100), lambda v: 0.08 < v.std() < 0.12),
    ],
)
def test_golden_formula(name: str, shape: tuple[int, ...], check: object) -> None:
    assert callable(check)
    value = golden_entry(name, shape)
    assert value.shape == shape
    assert check(value)


def test_golden_error_is_that_of_the_farthest_tensor() -> None:
    backbone = ziggurat.create_backbone("p2t_mini").eval()
    shape = (1, 3, 32, 32)
    with torch.inference_mode():
        kept = [x.reshape(-1)[::2].tolist() for x in backbone(golden_images(shape))]
    same = tuple(GoldenOutput("map", 2, tuple(values)) for values in kept)
    assert golden_error(backbone, GoldenValues("", shape, 2e-5, same)) < 1e-6
    doubled = GoldenOutput("map", 2, tuple(2 * value for value in kept[1]))
    other = (same[0], doubled, *same[2:])
    found = golden_error(backbone, GoldenValues("", shape, 2e-5, other))
    assert found == pytest.approx(0.5, abs=1e-5)
    no_number = GoldenOutput("map", 2, (math.nan,) * len(kept[1]))
    other = (same[0], no_number, *same[2:])
    assert math.isnan(golden_error(backbone, GoldenValues("", shape, 2e-5, other)))


def test_entries_are_told_by_names_and_shapes() -> None:
    shapes = {"a.weight": (2, 3), "b.bias": (3,)}
    digest = digest_of_entries(shapes)
    assert digest == digest_of_entries({name: shapes[name] for name in ("b.bias", "a.weight")})
    assert digest != digest_of_entries(shapes | {"b.bias": (4,)})
    assert digest != digest_of_entries({"a.weight": (2, 3), "c.bias": (3,)})
