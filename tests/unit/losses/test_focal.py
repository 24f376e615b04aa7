"""Focal loss against its formula."""

import math

import pytest
import torch
import torch.nn.functional as F

from ziggurat.losses.focal import sigmoid_focal_loss


def test_one_positive_and_one_negative() -> None:
    loss = sigmoid_focal_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), alpha=0.25, gamma=2.0)
    # p_t = 1/2 for both: (0.25 + 0.75) * (1/2)^2 * ln 2
    assert loss.item() == pytest.approx(0.25 * math.log(2))


def test_gamma_zero_is_weighted_cross_entropy() -> None:
    logits, targets = torch.randn(5, 3), (torch.rand(5, 3) > 0.5).float()
    loss = sigmoid_focal_loss(logits, targets, alpha=0.5, gamma=0.0)
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / 2
    torch.testing.assert_close(loss, expected)
