"""Stochastic depth: a sample skips a branch now and then, deep blocks more often than early ones.

Huang et al., arXiv:1603.09382: the probability grows linearly from 0 in the first block.
"""

from collections.abc import Sequence

from timm.layers.drop import DropPath
from torch import nn


def stochastic_depth(probability: float) -> nn.Module:
    """Return what drops the branch of a sample in training; the identity where nothing drops.

    Args:
        probability: Of a sample to skip the branch.
    """
    return DropPath(probability) if probability > 0 else nn.Identity()


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Return the probability of each block, stage by stage.

    Args:
        rate: Probability of the last block (eq. 4 of the paper, as 1 - p_L).
        depths: Number of blocks of each stage.
    """
    last = max(1, sum(depths) - 1)
    firsts = [sum(depths[:i]) for i in range(len(depths))]
    return [
        [rate * block / last for block in range(first, first + depth)]
        for first, depth in zip(firsts, depths, strict=True)
    ]
