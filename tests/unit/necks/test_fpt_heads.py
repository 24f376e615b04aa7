"""What attention of fused heads holds beside its input, as it does on an NVIDIA GPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ziggurat.layers.checkpointing import set_checkpointing
from ziggurat.layers.grounding_transformer import EuclideanGrounding, GroundingTransformer
from ziggurat.layers.group_norm import group_norm
from ziggurat.layers.self_transformer import SelfTransformer
from ziggurat.necks.fpt import FeaturePyramidTransformer, Formulas
from ziggurat.necks.fpt_memory import numbers_of_heads
from ziggurat.ops.mixture_attention import _by_fused_heads

FINE, COARSE = (12, 10), (6, 5)


def numbers_kept(compute: Callable[[], object]) -> int:
    """Count what a function keeps for its gradient, each storage once."""
    kept: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        compute()
        return sum(x.untyped_storage().nbytes() // x.element_size() for x in kept.values())


@pytest.mark.parametrize(
    ("look", "other", "keys"),
    [
        (SelfTransformer(32, group_norm), FINE, 30),
        (SelfTransformer(64, group_norm, key_budget=8), FINE, 8),
        (EuclideanGrounding(32), COARSE, 30),
        (EuclideanGrounding(128, key_budget=8), COARSE, 8),
    ],
    ids=["self", "self in a budget", "grounding", "grounding in a budget"],
)
def test_numbers_of_heads_are_those_that_are_kept(
    look: SelfTransformer | EuclideanGrounding, other: tuple[int, int], keys: int
) -> None:
    channels, parts = look.v.out_channels, look.prior.parts
    q = torch.randn(1, 120, channels, requires_grad=True)
    k, v = (torch.randn(1, keys, channels, requires_grad=True) for _ in range(2))
    prior = torch.rand(1, parts, requires_grad=True)
    bias = torch.randn(1, parts, keys) if isinstance(look, EuclideanGrounding) else None
    expected = numbers_of_heads(look, FINE, other)
    found = numbers_kept(lambda: _by_fused_heads(q, k, v, prior, 1.0, bias, 0.0))
    assert expected <= found < 1.1 * expected  # each query has the sum of its softmax besides


def test_other_looks_have_no_heads() -> None:
    for look in (GroundingTransformer(32, group_norm), EuclideanGrounding(32, window=3)):
        assert numbers_of_heads(look, FINE, COARSE) == 0


@pytest.mark.parametrize(
    ("formulas", "most", "every"),
    [
        # 4 heads of 8 channels, on maps of 64 and 16 cells with a quarter of them as keys
        ("official", 2 * 80 * 32, 2 * (80 + 20) * 32),
        # and 16 heads of 4 + 1 channels, of which kernels make 8
        ("paper", 2 * 80 * 128, 2 * (80 + 20) * 32 + 2 * 80 * 128),
    ],
)
def test_a_gpu_takes_more(formulas: Formulas, most: int, every: int) -> None:
    neck = FeaturePyramidTransformer((8, 8), (4, 8), 16, formulas=formulas)

    def more(*, learns: bool) -> int:
        sizes = [(8, 8), (4, 4)]
        on_cuda, on_cpu = (
            neck.predicted_bytes(sizes, batch=3, learns=learns, on_cuda=is_gpu)
            for is_gpu in (True, False)
        )
        return on_cuda - on_cpu

    assert more(learns=False) == 4 * 3 * most
    assert more(learns=True) == 4 * 3 * (every + most)
    set_checkpointing(neck, True)
    assert more(learns=True) == 4 * 3 * 2 * most
