"""Samples are balanced, and the order of the best does not depend on the sorting."""

import torch

from ziggurat.ops.ranking import best_indices
from ziggurat.ops.sampling import draw_balanced


def test_foreground_is_limited_and_background_fills_up() -> None:
    matches = torch.tensor([0] * 50 + [-1] * 100 + [-2] * 50)
    foreground, background = draw_balanced(matches, 40, 0.25)
    assert len(foreground) == 10
    assert len(background) == 30
    assert (matches[foreground] >= 0).all()
    assert (matches[background] == -1).all()
    assert (foreground.diff() > 0).all()


def test_few_of_a_kind_are_all_taken() -> None:
    foreground, background = draw_balanced(torch.tensor([-1, 3, -1, -2]), 256, 0.5)
    assert foreground.tolist() == [1]
    assert background.tolist() == [0, 2]


def test_another_state_of_the_generator_draws_others() -> None:
    matches = torch.full((1000,), -1)
    torch.manual_seed(0)
    first = draw_balanced(matches, 20, 0.5)[1]
    second = draw_balanced(matches, 20, 0.5)[1]
    torch.manual_seed(0)
    assert torch.equal(draw_balanced(matches, 20, 0.5)[1], first)
    assert not torch.equal(first, second)


def test_of_equal_scores_the_first_is_best() -> None:
    scores = torch.tensor([0.5, 1.0, 0.5, 1.0, 0.5, 0.25])
    assert best_indices(scores, 4).tolist() == [1, 3, 0, 2]
    assert best_indices(scores, 10).tolist() == [1, 3, 0, 2, 4, 5]
    assert best_indices(torch.ones(5000), 3).tolist() == [0, 1, 2]
