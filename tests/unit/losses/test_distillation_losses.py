"""The losses of distillation by hand."""

import math

import pytest
import torch

from ziggurat.losses.distillation import hard_distillation, soft_distillation


def test_soft_loss_is_the_divergence_times_the_squared_temperature() -> None:
    # Logits log(3), 0 are probabilities 3/4, 1/4, and at temperature 2 sqrt(3) : 1.
    teacher = torch.tensor([[math.log(3.0), 0.0]])
    student = torch.zeros(1, 2)
    at_one = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    # A mean over both classes, as in the published code.
    assert soft_distillation(student, teacher, temperature=1.0) == pytest.approx(at_one / 2)
    share = math.sqrt(3) / (math.sqrt(3) + 1)
    at_two = share * math.log(share / 0.5) + (1 - share) * math.log((1 - share) / 0.5)
    assert soft_distillation(student, teacher, temperature=2.0) == pytest.approx(4 * at_two / 2)
    assert soft_distillation(teacher, teacher, temperature=2.0) == pytest.approx(0.0)


def test_hard_loss_is_the_cross_entropy_of_the_likeliest_class() -> None:
    teacher = torch.tensor([[1.0, 5.0, 0.0], [9.0, 0.0, 0.0]])
    student = torch.tensor([[0.0, math.log(2.0), 0.0], [0.0, 0.0, 0.0]])
    expected = (math.log(4 / 2) + math.log(3)) / 2
    assert hard_distillation(student, teacher) == pytest.approx(expected)


def test_half_precision_is_computed_in_single() -> None:
    student, teacher = torch.randn(4, 7), torch.randn(4, 7).bfloat16()
    exact = soft_distillation(student, teacher.float(), temperature=3.0)
    assert torch.equal(soft_distillation(student, teacher, temperature=3.0), exact)
