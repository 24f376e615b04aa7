"""P2T, the Pyramid Pooling Transformer (Wu et al., TPAMI 2022, arXiv:2106.12011).

A query attends to a short sequence of tokens that average pooling takes from the whole map at
four scales at once: global context at a cost that is linear in the number of pixels, and every
key already carries the context of its scale.

Shapes: B images, C channels, H x W map, N = H * W queries, M pooled tokens, D = C / heads.
Maps are (B, C, H, W) in channels_last memory, so that their token view (B, N, C) costs nothing.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.checkpointing import run_block, set_checkpointing
from ziggurat.layers.initialization import init_linear_and_norm
from ziggurat.layers.map_norm import MapNorm
from ziggurat.layers.overlap_patch_embed import OverlapPatchEmbed
from ziggurat.layers.pointwise import PointwiseConv
from ziggurat.layers.pre_norm_block import FeedForwardBranch
from ziggurat.layers.stochastic_depth import add_branch, drop_path_rates, stochastic_depth
from ziggurat.layers.tokens import to_map, to_tokens
from ziggurat.ops.attention import attend
from ziggurat.ops.pooling import pyramid_average_pool, round_half_even

POOL_RATIOS = ((12, 16, 20, 24), (6, 8, 10, 12), (3, 4, 5, 6), (1, 2, 3, 4))
"""Downsampling ratios of the pyramid in each stage; they halve as the map does."""


class PyramidPoolingAttention(nn.Module):
    """Self-attention whose keys and values are a pooled pyramid of the map (paper, eq. 1-4).

    A query sees M = sum_r round(H / r) * round(W / r) tokens instead of H * W: the cost is
    O(N * M), and every level of the pyramid is one scale of context.

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
        pool_ratios: Downsampling ratio of each pyramid level.

    Raises:
        ValueError: If `num_heads` does not divide `dim`.
    """

    def __init__(self, dim: int, num_heads: int, pool_ratios: Sequence[int]) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got dim={dim}, num_heads={num_heads}")
        self.num_heads = num_heads
        self.pool_ratios = tuple(pool_ratios)
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.pool_norm = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "B C H W"], pool_convs: nn.ModuleList
    ) -> Float[Tensor, "B C H W"]:
        """Mix tokens; the blocks of a stage share `pool_convs`."""
        q = self._split_heads(self.q(to_tokens(x)))
        k, v = self.kv(self._pool(x, pool_convs)).chunk(2, dim=-1)
        y = attend(q, self._split_heads(k), self._split_heads(v))
        return to_map(self.proj(y.transpose(1, 2).flatten(2)), x.shape[2:])

    def _pool(
        self, x: Float[Tensor, "B C H W"], pool_convs: nn.ModuleList
    ) -> Float[Tensor, "B M C"]:
        height, width = x.shape[2:]
        sizes = [(_cells(height, r), _cells(width, r)) for r in self.pool_ratios]
        levels = [
            to_tokens(level + _convolve(conv, level))
            for level, conv in zip(pyramid_average_pool(x, sizes), pool_convs, strict=True)
        ]
        return self.pool_norm(torch.cat(levels, dim=1))

    def _split_heads(self, t: Float[Tensor, "B N C"]) -> Float[Tensor, "B heads N D"]:
        return t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _convolve(conv: nn.Module, level: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    if level.shape[2:] == (1, 1) and not torch.compiler.is_compiling():
        # A single cell, as small images have in most levels, has padding for all its neighbours.
        weight, bias = cast(Tensor, conv.weight), cast(Tensor, conv.bias)
        return level * weight[:, 0, 1, 1, None, None] + bias[:, None, None]
    y: Tensor = conv(level)
    return y


def _cells(size: int, ratio: int) -> int:
    # Rounded, not //: the published weights were trained with it (56 / 20 -> 3).
    # Differs from P2T/p2t.py: below 65 pixels a level has one cell, where it would have none.
    cells = round_half_even(size, ratio)
    # A symbol of a traced graph stands for sizes from 2 on, as torch.export assumes of all.
    return max(1, cells) if isinstance(cells, int) else cells


class InvertedResidual(nn.Module):
    """Feed-forward block with a depthwise convolution in the middle (paper, section 3.3).

    Args:
        dim: Number of channels C.
        hidden_dim: Number of channels after the expansion.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = PointwiseConv(dim, hidden_dim)
        self.conv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.fc2 = PointwiseConv(hidden_dim, dim)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Expand, look at the neighbours, project back; the caller adds the residual."""
        x = F.hardswish(self.fc1(x))
        y: Tensor = self.fc2(F.hardswish(self.conv(x)))
        return y


class Block(FeedForwardBranch):
    """Attention and feed-forward, each normalised first and added to its input.

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
        mlp_ratio: Expansion of the feed-forward block.
        pool_ratios: Downsampling ratio of each pyramid level.
        drop_path: Probability that a sample skips a branch in training.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: int,
        pool_ratios: Sequence[int],
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = MapNorm(dim, eps=1e-6)
        self.attn = PyramidPoolingAttention(dim, num_heads, pool_ratios)
        self.norm2 = MapNorm(dim, eps=1e-6)
        self.mlp = InvertedResidual(dim, dim * mlp_ratio)
        self.drop_path = stochastic_depth(drop_path)

    def forward(
        self, x: Float[Tensor, "B C H W"], pool_convs: nn.ModuleList
    ) -> Float[Tensor, "B C H W"]:
        """Return the map after both branches."""
        x = add_branch(x, lambda part: self.attn(self.norm1(part), pool_convs), self.drop_path)
        return self.mix_channels(x)


class Stage(nn.Module):
    """Patch embedding, then blocks that share the convolutions of their pooled pyramids.

    Args:
        in_channels: Channels of the map that comes in.
        dim: Number of channels C of the stage.
        stride: Stride of the patch embedding, 4 in the first stage and 2 after it.
        num_heads: Number of attention heads.
        mlp_ratio: Expansion of the feed-forward blocks.
        pool_ratios: Downsampling ratio of each pyramid level.
        drop_paths: Drop probability of each block; their number is the depth.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        stride: int,
        num_heads: int,
        mlp_ratio: int,
        pool_ratios: Sequence[int],
        drop_paths: Sequence[float],
    ) -> None:
        super().__init__()
        self.use_checkpointing = False
        self.patch_embed = OverlapPatchEmbed(in_channels, dim, stride)
        self.pool_convs = nn.ModuleList(
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim) for _ in pool_ratios
        )
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, mlp_ratio, pool_ratios, drop_path) for drop_path in drop_paths
        )

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B C h w"]:
        """Return the map of the stage; sizes are divided by the stride and rounded up."""
        x = self.patch_embed(x)
        for block in self.blocks:
            x = run_block(block, x, self.pool_convs, use_checkpointing=self.use_checkpointing)
        return x


class P2T(nn.Module):
    """Four stages of strides 4, 8, 16 and 32, no norm after any of them.

    Args:
        embed_dims: Channels of each stage.
        num_heads: Attention heads of each stage.
        mlp_ratios: Expansion of the feed-forward blocks of each stage.
        depths: Number of blocks of each stage.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        in_channels: Channels of the images.
    """

    def __init__(
        self,
        embed_dims: Sequence[int],
        num_heads: Sequence[int],
        mlp_ratios: Sequence[int],
        depths: Sequence[int],
        drop_path_rate: float,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.out_channels = tuple(embed_dims)
        self.out_strides = (4, 8, 16, 32)
        self.num_features = embed_dims[-1]
        drop_paths = drop_path_rates(drop_path_rate, depths)
        self.stages = nn.ModuleList()
        for i, dim in enumerate(embed_dims):
            self.stages.append(
                Stage(
                    in_channels=in_channels if i == 0 else embed_dims[i - 1],
                    dim=dim,
                    stride=4 if i == 0 else 2,
                    num_heads=num_heads[i],
                    mlp_ratio=mlp_ratios[i],
                    pool_ratios=POOL_RATIOS[i],
                    drop_paths=drop_paths[i],
                )
            )
        init_linear_and_norm(self)

    def forward(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the maps C2..C5; a side that its stride does not divide is rounded up."""
        x = images.contiguous(memory_format=torch.channels_last)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward_features(self, images: Float[Tensor, "B in H W"]) -> Float[Tensor, "B C h w"]:
        """Return what a classifier reads: the map C5."""
        return self.forward(images)[-1]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping what is in them."""
        set_checkpointing(self, enable)


def p2t_tiny(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
    """Build P2T-Tiny: 11.2 M parameters without its classifier."""
    return P2T(
        embed_dims=(48, 96, 240, 384),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(2, 2, 6, 3),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def p2t_small(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
    """Build P2T-Small: 23.6 M parameters without its classifier."""
    return P2T(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(2, 2, 9, 3),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def p2t_medium(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
    """Build P2T-Medium, which exists in the official code only: no weights are published."""
    return P2T(
        embed_dims=(64, 128, 384, 512),
        num_heads=(1, 2, 6, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 4, 15, 3),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def p2t_base(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
    """Build P2T-Base: 35.6 M parameters without its classifier."""
    return P2T(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 4, 18, 3),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def p2t_large(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
    """Build P2T-Large: 53.8 M parameters without its classifier."""
    return P2T(
        embed_dims=(64, 128, 320, 640),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 8, 27, 3),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )
