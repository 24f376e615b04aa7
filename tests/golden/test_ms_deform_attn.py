"""Deformable attention gives what the official code gives: points, directions and two modules."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ziggurat.layers.deformable_attention import DeformableAttention, pixel_centers
from ziggurat.ops.deformable_attention import sample_by_bag, sample_by_grid

TOLERANCE = 2e-5
SIZES = [(8, 10), (4, 5), (2, 3)]


@pytest.mark.parametrize("sample", [sample_by_bag, sample_by_grid])
def test_points_are_read_as_officially(
    sample: Callable[..., Tensor], golden: Callable[[str], Any]
) -> None:
    case = golden("dense/unit_ms_deform_attn")
    locations = case.unit_input("loc_logit").sigmoid() * 1.4 - 0.2
    weights = case.unit_input("attn_logit").softmax(dim=-1).unflatten(-1, (3, 4))
    # Officially points are fractions of the map; a centre at 0 makes offsets of them.
    offsets = locations * torch.tensor([[w, h] for h, w in SIZES], dtype=torch.float32)[:, None]
    y = sample(case.unit_input("value"), SIZES, torch.zeros(50, 2), offsets, weights)
    assert case.error("output", y) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "query_sizes", "feature_sizes"),
    [("injector", SIZES[:1], SIZES), ("extractor", SIZES, SIZES[:1])],
)
def test_modules_give_the_official_output(
    name: str,
    query_sizes: list[tuple[int, int]],
    feature_sizes: list[tuple[int, int]],
    golden: Callable[[str], Any],
) -> None:
    case = golden("dense/unit_ms_deform_attn")
    module = DeformableAttention(216, 6, len(feature_sizes), 4)
    initial = module.sampling_offsets.bias
    assert case.error(f"init_sampling_offsets_bias_{name}", initial) < TOLERANCE
    centers = pixel_centers(query_sizes, torch.device("cpu"))
    assert case.error(f"reference_points_{name}", centers[None, :, None]) < TOLERANCE
    # The case lists no entries; its weights are the formula's for the names in the bare module.
    case.facts["entries"] = [(n, list(v.shape), "float32") for n, v in module.state_dict().items()]
    module.load_state_dict(case.weights())
    queries, features = case.unit_input(f"query_{name[:3]}"), case.unit_input(f"feat_{name[:3]}")
    with torch.inference_mode():
        y = module(queries, query_sizes, features, feature_sizes)
    assert case.error(f"msdeform_{name}_out", y) < TOLERANCE
