"""Attention by a mixture of softmaxes: chunks and fused heads give what the formula gives."""

import pytest
import torch
from torch import Tensor

from ziggurat.ops import mixture_attention as module
from ziggurat.ops.mixture_attention import distance_attention, mixture_attention


def formula(q: Tensor, k: Tensor, v: Tensor, prior: Tensor, bias: Tensor | None) -> Tensor:
    """Write the sum down, with all N x M entries."""
    parts = prior.shape[1]
    total = torch.zeros_like(q @ k.mT)
    for p, (q_p, k_p) in enumerate(zip(q.chunk(parts, 2), k.chunk(parts, 2), strict=True)):
        scores = 0.3 * q_p @ k_p.mT + (0 if bias is None else bias[:, p, None])
        total = total + prior[:, p, None, None] * scores.softmax(dim=2)
    return total @ v


def arguments(parts: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(parts)
    q, k, v, bias = (
        torch.randn(shape, generator=draw, dtype=torch.float64)
        for shape in ((2, 150, 8), (2, 37, 8), (2, 37, 6), (2, parts, 37))
    )
    prior = torch.rand(2, parts, generator=draw, dtype=torch.float64).softmax(dim=1)
    return [x.requires_grad_() for x in (q, k, v, prior, bias)]


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("is_biased", [False, True])
@pytest.mark.parametrize("path", ["whole", "chunks", "fused"])
def test_every_way_gives_the_formula_and_its_gradients(
    parts: int, is_biased: bool, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v, prior, bias = arguments(parts)
    key_bias = bias if is_biased else None
    if path == "chunks":
        monkeypatch.setattr(module, "SCORES_AT_A_TIME", 0)
    if path == "fused":
        out = module._by_fused_heads(q, k, v, prior, 0.3, key_bias, 0.0)
    else:
        out = mixture_attention(q, k, v, prior, scale=0.3, key_bias=key_bias)
    expected = formula(q, k, v, prior, key_bias)
    torch.testing.assert_close(out, expected)
    inputs = [q, k, v, prior, *([bias] if is_biased else [])]
    upstream = torch.randn_like(out)
    ours = torch.autograd.grad(out, inputs, upstream)
    for mine, theirs in zip(ours, torch.autograd.grad(expected, inputs, upstream), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_dropout_keeps_the_mean_and_is_drawn_alike_for_the_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SCORES_AT_A_TIME", 0)
    q, k, v, prior, _ = arguments(2)
    torch.manual_seed(0)
    mean = torch.stack(
        [mixture_attention(q, k, v, prior, scale=0.3, dropout=0.5).detach() for _ in range(400)]
    ).mean(dim=0)
    assert (mean - formula(q, k, v, prior, None)).abs().mean() < 0.03

    def run(values: Tensor) -> Tensor:
        torch.manual_seed(1)
        return mixture_attention(q, k, values, prior, scale=0.3, dropout=0.5)

    # Linear in the values: the gradient is the map itself, with the same entries left out.
    out = run(v)
    (gradient,) = torch.autograd.grad(out.sum(), v)
    step = torch.zeros_like(v)
    step[1, 5, 2] = 1.0
    assert (run(v + step) - out).sum().item() == pytest.approx(gradient[1, 5, 2].item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_distances_survive_numbers_far_from_zero(dtype: torch.dtype) -> None:
    q, k, v, prior, _ = (x.detach() for x in arguments(2))
    q, k, v, prior = (x.to(dtype) for x in (100 + q, 100 + k, v, prior))
    out = distance_attention(q, k, v, prior)
    wide = [x.double() for x in (q, k, v, prior)]
    total = torch.zeros(2, 150, 37, dtype=torch.float64)
    for p, (q_p, k_p) in enumerate(zip(wide[0].chunk(2, 2), wide[1].chunk(2, 2), strict=True)):
        total += wide[3][:, p, None, None] * (-torch.cdist(q_p, k_p).square()).softmax(dim=2)
    torch.testing.assert_close(out.double(), total @ wide[2], atol=1e-2, rtol=1e-2)


def test_parts_must_divide_the_channels() -> None:
    q, k, v, _, _ = arguments(1)
    with pytest.raises(ValueError, match="8 channels cannot be cut into 3 equal parts"):
        mixture_attention(q, k, v, torch.ones(2, 3, dtype=torch.float64) / 3, scale=1.0)
