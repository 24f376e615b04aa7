"""Stochastic depth: a sample skips a branch now and then, deep blocks more often than early ones.

Huang et al., arXiv:1603.09382: the probability grows linearly from 0 in the first block. On a CPU
`add_branch` does not compute what is skipped, either.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from timm.layers.drop import DropPath
from torch import Tensor, nn


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


class Kept(NamedTuple):
    """Samples whose branch is computed.

    Attributes:
        indices: Their numbers, or None for all.
        scale: Factor of the branch, which makes up for those that skip it; 0 where all do.
    """

    indices: Int[Tensor, " K"] | None
    scale: float


def add_branch(
    x: Float[Tensor, "B C H W"],
    branch: Callable[[Tensor], Tensor],
    drop_path: nn.Module,
) -> Float[Tensor, "B C H W"]:
    """Return the map and the branch that starts from it, added up.

    The branch must treat each sample by itself: no batch norm may be in it.

    Args:
        x: The map.
        branch: Map to map of the same shape.
        drop_path: What `stochastic_depth` returned.
    """
    if not can_skip(x, drop_path):
        y: Tensor = x + drop_path(branch(x))
        return y
    kept = draw_kept(x, drop_path)
    return replace_kept(x, kept, lambda part: torch.add(part, branch(part), alpha=kept.scale))


def can_skip(x: Float[Tensor, "B C H W"], drop_path: nn.Module) -> bool:
    """Return whether a branch is computed for those samples only that take it.

    On other devices than a CPU they are known to the device alone, and to wait for it costs more.

    Args:
        x: The map.
        drop_path: What drops; another layer than that of `stochastic_depth` is called as it is.
    """
    is_known = type(drop_path) is nn.Identity or (
        type(drop_path) is DropPath and drop_path.scale_by_keep
    )
    return is_known and x.device.type == "cpu" and not torch.compiler.is_compiling()


def draw_kept(x: Float[Tensor, "B C H W"], drop_path: nn.Module) -> Kept:
    """Draw the samples that take a branch, with the random numbers of timm's layer.

    Args:
        x: The map, for which `can_skip` holds.
        drop_path: What `stochastic_depth` returned.
    """
    if not isinstance(drop_path, DropPath) or not drop_path.training or not drop_path.drop_prob:
        return Kept(None, 1.0)
    share = 1 - drop_path.drop_prob
    is_kept = x.new_empty(len(x)).bernoulli_(share).bool()
    if not len(x):
        return Kept(None, 1.0)
    if not is_kept.any():
        # For nothing, so that the parameters of the branch have gradients in every process.
        return Kept(torch.zeros(1, dtype=torch.int64), 0.0)
    return Kept(None if is_kept.all() else is_kept.nonzero().flatten(), 1 / share)


def replace_kept(
    x: Float[Tensor, "B C H W"], kept: Kept, change: Callable[[Tensor], Tensor]
) -> Float[Tensor, "B C H W"]:
    """Return the map with some of its samples changed.

    Args:
        x: The map.
        kept: Which samples.
        change: Map to map of the same shape.
    """
    if kept.indices is None:
        return change(x)
    pixels = x.permute(0, 2, 3, 1)  # in the order of memory
    changed = change(pixels.index_select(0, kept.indices).permute(0, 3, 1, 2))
    rows = changed.permute(0, 2, 3, 1)
    return pixels.to(rows.dtype).index_copy(0, kept.indices, rows).permute(0, 3, 1, 2)
