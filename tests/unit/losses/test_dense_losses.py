"""Losses of dense heads against their formulas."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.losses.background_focal import _sum_of, background_focal_loss
from ziggurat.losses.focal import sigmoid_focal_loss, sparse_focal_loss
from ziggurat.losses.quality_focal import distribution_focal_loss, quality_focal_loss


def test_background_and_foreground_are_the_focal_loss() -> None:
    logits = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    counted = torch.tensor([True] * 5 + [False] * 2)
    wanted = torch.zeros(7, 3, dtype=torch.float64)
    wanted[[0, 3], [2, 1]] = 1
    dense = sigmoid_focal_loss(logits[counted], wanted[counted], alpha=0.25, gamma=2.0)
    sparse = 0.75 * background_focal_loss(logits, counted, gamma=2.0)
    sparse = sparse + sparse_focal_loss(logits[[0, 3], [2, 1]], alpha=0.25, gamma=2.0)
    torch.testing.assert_close(sparse, dense)
    (expected,) = torch.autograd.grad(dense, logits)
    (found,) = torch.autograd.grad(sparse, logits)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("value", [-200.0, 200.0])
def test_background_loss_of_extreme_logits_is_finite(value: float) -> None:
    logits = torch.full((2, 2), value, requires_grad=True)
    loss = background_focal_loss(logits, torch.tensor([True, False]), gamma=2.0)
    loss.backward()
    assert loss.item() == pytest.approx(max(value, 0.0) * 2)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[1].any()


def test_background_loss_holds_only_the_logits() -> None:
    logits = torch.randn(50, 40, requires_grad=True)
    saved: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        background_focal_loss(logits, torch.ones(50, dtype=torch.bool), gamma=2.0)
    assert sum(saved) <= 50 * 40 + 50


def test_a_quality_that_is_met_costs_nothing() -> None:
    quality = torch.tensor([0.3, 0.8])
    assert quality_focal_loss(quality.logit(), quality, beta=2.0).item() == pytest.approx(0)
    missed = quality_focal_loss(torch.zeros(1), torch.ones(1), beta=2.0)
    assert missed.item() == pytest.approx(math.log(2) / 4)


def test_distribution_loss_is_cross_entropy_to_both_neighbours() -> None:
    logits = torch.randn(2, 5)
    loss = distribution_focal_loss(logits, torch.tensor([2.0, 1.25]))
    log_probability = F.log_softmax(logits, dim=1)
    assert loss[0].item() == pytest.approx(-log_probability[0, 2].item(), rel=1e-5)
    both = -0.75 * log_probability[1, 1] - 0.25 * log_probability[1, 2]
    assert loss[1].item() == pytest.approx(both.item(), rel=1e-5)


def test_background_loss_waits_for_no_device(on_mps: Callable[[Tensor], Tensor]) -> None:
    logits = torch.randn(7, 3, device="meta", requires_grad=True)  # there is nothing to wait for
    counted = torch.ones(7, dtype=torch.bool, device="meta")
    background_focal_loss(logits, counted, gamma=2.0).backward()
    assert logits.grad is not None and logits.grad.shape == (7, 3)
    values, counted = torch.arange(7.0), torch.arange(7) % 2 == 0
    assert float(_sum_of(on_mps(values), counted)) == float(_sum_of(values, counted)) == 12
