"""The residual block."""

import torch
from timm.layers.drop import DropPath
from torch import nn

from ziggurat.layers.pre_norm_block import PreNormBlock


class Scale(nn.Module):
    """Multiply by a factor, in place of attention or feed-forward."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def test_each_branch_is_normalised_first_and_added() -> None:
    block = PreNormBlock(2, Scale(3.0), Scale(0.0), drop_path=0.0)
    x = torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1)  # normed: -1, 1
    torch.testing.assert_close(block(x).flatten(), torch.tensor([-2.0, 6.0]))
    block.attn, block.mlp = Scale(0.0), Scale(5.0)
    torch.testing.assert_close(block(x).flatten(), torch.tensor([-4.0, 8.0]), atol=1e-4, rtol=0)


def test_epsilons_are_the_smaller_ones() -> None:
    block = PreNormBlock(4, nn.Identity(), nn.Identity(), drop_path=0.0)
    assert (block.norm1.eps, block.norm2.eps) == (1e-6, 1e-6)


def test_a_rate_of_zero_drops_nothing_at_no_cost() -> None:
    kept = PreNormBlock(4, nn.Identity(), nn.Identity(), drop_path=0.0)
    dropped = PreNormBlock(4, nn.Identity(), nn.Identity(), drop_path=0.25)
    assert isinstance(kept.drop_path, nn.Identity)
    assert isinstance(dropped.drop_path, DropPath)
    assert dropped.drop_path.drop_prob == 0.25


def test_a_dropped_sample_skips_both_branches() -> None:
    block = PreNormBlock(4, nn.Identity(), nn.Identity(), drop_path=0.5).train()
    x = torch.randn(64, 4, 1, 1)
    unchanged = (block(x) == x).flatten(1).all(dim=1).float().mean().item()
    assert 0.05 < unchanged < 0.5  # a quarter of the samples
