"""Points between pixels, on several maps."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ziggurat.ops.deformable_attention import deformable_sample, sample_by_bag, sample_by_grid

SIZES = [(5, 4), (2, 3)]
Arguments = tuple[Tensor, list[tuple[int, int]], Tensor, Tensor, Tensor]


def arguments(queries: int = 7) -> Arguments:
    """Two images, three heads, two levels, four points a level, some beyond the border."""
    num_pixels = sum(height * width for height, width in SIZES)
    return (
        torch.randn(2, num_pixels, 3, 8),
        SIZES,
        torch.rand(queries, 2),
        3 * torch.randn(2, queries, 3, 2, 4, 2),
        torch.rand(2, queries, 3, 2, 4),
    )


@pytest.mark.parametrize("sample", [sample_by_bag, sample_by_grid])
def test_a_point_between_four_pixels_is_their_weighted_mean(
    sample: Callable[..., Tensor],
) -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
    center = torch.tensor([[0.5, 0.5]])
    offsets = torch.tensor([[0.0, 0.0], [-0.25, 0.0], [10.0, 0.0], [0.0, 1.0]])
    weights = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    got = sample(
        values, [(2, 2)], center, offsets.view(1, 1, 1, 1, 4, 2), weights.view(1, 1, 1, 1, 4)
    )
    # The mean; a quarter pixel to the left; far outside; half in the last row and half below it.
    assert got.item() == pytest.approx(2.5 + 10 * 2.25 + 0 + 1000 * 0.5 * 3.5)


def test_bags_and_grids_give_the_same_values_and_gradients() -> None:
    values, sizes, centers, offsets, weights = arguments()
    # Whole pixels, where a bilinear function has a kink: both must take the same side.
    centers = torch.tensor([[0.5 / 4, 0.5 / 5]]).expand(7, 2)
    offsets[..., 0, :2, :] = torch.tensor([1.0, 2.0])
    learned = [t.requires_grad_() for t in (values, offsets, weights)]
    upward = torch.randn(2, 7, 24)
    results = []
    for sample in (sample_by_bag, sample_by_grid):
        y = sample(values, sizes, centers, offsets, weights)
        results.append([y, *torch.autograd.grad((y * upward).sum(), learned)])
    for bag, grid in zip(*results, strict=True):
        torch.testing.assert_close(bag, grid, atol=1e-4, rtol=1e-4)


def test_half_precision_values_are_read_at_exact_positions() -> None:
    values, sizes, centers, offsets, weights = arguments()
    expected = deformable_sample(values, sizes, centers, offsets, weights)
    got = deformable_sample(values.bfloat16(), sizes, centers, offsets, weights)
    assert got.dtype == torch.bfloat16
    assert (got - expected).norm() / expected.norm() < 1e-2


def test_exported_graphs_sample_on_grids_and_give_the_same() -> None:
    class Sample(torch.nn.Module):
        def forward(self, values: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
            return deformable_sample(values, SIZES, torch.full((7, 2), 0.3), offsets, weights)

    values, _, _, offsets, weights = arguments()
    program = torch.export.export(Sample(), (values, offsets, weights))
    assert "grid_sampler" in str(program.graph)
    assert "embedding_bag" not in str(program.graph)
    torch.testing.assert_close(
        program.module()(values, offsets, weights), Sample()(values, offsets, weights)
    )
