"""Attention with few keys is the same in parts; in bfloat16 it is as near to the exact one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.ops import attention
from ziggurat.ops.attention import FEW_KEYS, attend


def _tokens(num_keys: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Make queries, keys and values as layers do: heads cut out of the channels of tokens."""
    queries, keys = torch.randn(2, 200, 2, 32), torch.randn(2, num_keys, 2, 2, 32)
    parts = (queries.transpose(1, 2), *keys.permute(2, 0, 3, 1, 4))
    q, k, v = (part.to(dtype).requires_grad_() for part in parts)
    return q, k, v


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found.detach().double() - expected).std() / expected.std())


@pytest.mark.parametrize("scale", [None, 1.0])
def test_learning_in_bfloat16_is_as_exact_as_the_fused_way(
    scale: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded = _tokens(49, torch.bfloat16)
    slope = torch.randn(2, 2, 200, 32).to(torch.bfloat16)
    exact = [x.detach().double().requires_grad_() for x in rounded]
    y = F.scaled_dot_product_attention(exact[0], exact[1], exact[2], scale=scale)
    expected = [y.detach(), *torch.autograd.grad(y, exact, slope.double())]

    def distances() -> list[float]:
        y = attend(*rounded, scale)
        assert y.dtype == torch.bfloat16
        found = [y, *torch.autograd.grad(y, rounded, slope)]
        return [_distance(a, b) for a, b in zip(found, expected, strict=True)]

    in_parts = distances()
    monkeypatch.setattr(attention, "FEW_KEYS", 0)
    fused = distances()
    assert in_parts != fused
    assert all(part < 1.5 * whole for part, whole in zip(in_parts, fused, strict=True))


@pytest.mark.parametrize(
    ("num_keys", "dtype", "learns"),
    [
        (FEW_KEYS + 1, torch.bfloat16, True),
        (49, torch.float32, True),
        (49, torch.bfloat16, False),
    ],
)
def test_all_else_is_the_fused_way(num_keys: int, dtype: torch.dtype, learns: bool) -> None:
    q, k, v = _tokens(num_keys, dtype)
    with torch.set_grad_enabled(learns):
        assert torch.equal(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_autocast_leaves_the_scores_in_float32() -> None:
    q, k, v = _tokens(49, torch.bfloat16)
    plain = attend(q, k, v)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attend(q, k, v), plain)


def test_functional_gradients_are_those_of_the_fused_way() -> None:
    q, k, v = (x.detach() for x in _tokens(FEW_KEYS // 2, torch.bfloat16))
    found = torch.func.grad(lambda q: attend(q, k, v).float().sum())(q)
    learned = q.clone().requires_grad_()
    F.scaled_dot_product_attention(learned, k, v).float().sum().backward()
    assert learned.grad is not None
    assert torch.equal(found, learned.grad)
