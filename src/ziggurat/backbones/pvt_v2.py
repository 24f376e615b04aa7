"""PVT v2, the improved Pyramid Vision Transformer (Wang et al., CVMJ 2022, arXiv:2106.13797).

Three changes to PVT v1. Patches overlap, so the map stays continuous. A depthwise convolution in
the feed-forward block tells where a token is, through the zeros at the border of the map: no
position embedding, hence no size that the model is made for. And, in the "linear" variant, keys
and values are 7 x 7 averages of the whole map, whatever its size: cost linear in the pixels.

Shapes: B images, C channels, H x W map.
Maps are (B, C, H, W) in channels_last memory, so that their token view (B, H * W, C) costs nothing.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.errors import ZigguratError
from ziggurat.layers.checkpointing import run_block, set_checkpointing
from ziggurat.layers.initialization import init_linear_and_norm
from ziggurat.layers.map_norm import MapNorm
from ziggurat.layers.overlap_patch_embed import OverlapPatchEmbed
from ziggurat.layers.pointwise import PointwiseConv
from ziggurat.layers.pre_norm_block import PreNormBlock
from ziggurat.layers.spatial_reduction_attention import (
    SpatialReductionAttention,
    spatial_reduction,
)
from ziggurat.layers.stochastic_depth import drop_path_rates
from ziggurat.layers.tokens import to_map, to_tokens
from ziggurat.ops.pooling import pyramid_average_pool

SR_RATIOS = (8, 4, 2, 1)
"""Side of the windows of spatial reduction in each stage; it halves as the map does."""

POOLED_SIDE = 7
"""Side of the map that linear attention takes its keys and values from."""

SMALLEST_IMAGE = 29
"""Shortest side, in pixels, whose map in stage 1 holds one window of spatial reduction."""


class PooledReduction(nn.Module):
    """The linear variant's keys and values: 7 x 7 averages of the map (section 3.2).

    Smaller maps are spread to 7 x 7 by the same rule, which repeats cells.

    Args:
        dim: Number of channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = PointwiseConv(dim, dim)
        self.norm = MapNorm(dim)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 7 7"]:
        """Return the pooled map."""
        pooled = pyramid_average_pool(x, [(POOLED_SIDE, POOLED_SIDE)])[0]
        return F.gelu(self.norm(self.conv(pooled)))


class ConvFeedForward(nn.Module):
    """Feed-forward block that looks at the neighbours, and so learns where it is (section 3.3).

    Args:
        dim: Number of channels C.
        hidden_dim: Number of channels after the expansion.
        use_relu: Whether a ReLU follows the expansion; the linear variant has it.
    """

    def __init__(self, dim: int, hidden_dim: int, *, use_relu: bool) -> None:
        super().__init__()
        self.use_relu = use_relu
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.conv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Expand, look at the neighbours, project back; the caller adds the residual."""
        size = x.shape[2:]
        hidden = to_map(self.fc1(to_tokens(x)), size)
        if self.use_relu:
            hidden = F.relu(hidden)
        hidden = F.gelu(self.conv(hidden))
        return to_map(self.fc2(to_tokens(hidden)), size)


class Stage(nn.Module):
    """Overlapping patch embedding, blocks, and a norm.

    Args:
        in_channels: Channels of the map that comes in.
        dim: Number of channels C of the stage.
        stride: Stride of the patch embedding, 4 in the first stage and 2 after it.
        num_heads: Number of attention heads.
        mlp_ratio: Expansion of the feed-forward blocks.
        sr_ratio: Side of the windows of spatial reduction; None for linear attention.
        drop_paths: Drop probability of each block; their number is the depth.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        stride: int,
        num_heads: int,
        mlp_ratio: int,
        sr_ratio: int | None,
        drop_paths: Sequence[float],
    ) -> None:
        super().__init__()
        self.use_checkpointing = False
        self.patch_embed = OverlapPatchEmbed(in_channels, dim, stride)
        self.blocks = nn.ModuleList()
        for drop_path in drop_paths:
            reduction = (
                PooledReduction(dim) if sr_ratio is None else spatial_reduction(dim, sr_ratio)
            )
            attn = SpatialReductionAttention(dim, num_heads, reduction)
            mlp = ConvFeedForward(dim, dim * mlp_ratio, use_relu=sr_ratio is None)
            self.blocks.append(PreNormBlock(dim, attn, mlp, drop_path))
        self.norm = MapNorm(dim, eps=1e-6)

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B C h w"]:
        """Return the map of the stage; sizes are divided by the stride and rounded up."""
        x = self.patch_embed(x)
        for block in self.blocks:
            x = run_block(block, x, use_checkpointing=self.use_checkpointing)
        y: Tensor = self.norm(x)
        return y


class PVTv2(nn.Module):
    """Four stages of strides 4, 8, 16 and 32, a norm after each of them.

    Args:
        embed_dims: Channels of each stage.
        num_heads: Attention heads of each stage.
        mlp_ratios: Expansion of the feed-forward blocks of each stage.
        depths: Number of blocks of each stage.
        use_linear_attention: Whether keys and values are 7 x 7 averages in every stage.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        in_channels: Channels of the images.
    """

    def __init__(
        self,
        embed_dims: Sequence[int],
        num_heads: Sequence[int],
        mlp_ratios: Sequence[int],
        depths: Sequence[int],
        use_linear_attention: bool,
        drop_path_rate: float,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.out_channels = tuple(embed_dims)
        self.out_strides = (4, 8, 16, 32)
        self.num_features = embed_dims[-1]
        self.smallest_image = 1 if use_linear_attention else SMALLEST_IMAGE
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
                    sr_ratio=None if use_linear_attention else SR_RATIOS[i],
                    drop_paths=drop_paths[i],
                )
            )
        init_pvt_v2(self)

    def forward(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the normed maps C2..C5; a side that its stride does not divide is rounded up.

        Raises:
            ZigguratError: If an image is smaller than a window of spatial reduction.
        """
        if not torch.compiler.is_compiling() and min(images.shape[2:]) < self.smallest_image:
            raise ZigguratError(
                f"PVT v2 needs images of at least {self.smallest_image} x {self.smallest_image} "
                f"pixels, got {images.shape[2]} x {images.shape[3]}: no window of spatial "
                "reduction would fit into the map; enlarge or pad them, or take pvt_v2_b2_li"
            )
        x = images.contiguous(memory_format=torch.channels_last)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward_features(self, images: Float[Tensor, "B in H W"]) -> Float[Tensor, "B C h w"]:
        """Return what a classifier reads: the normed map C5."""
        return self.forward(images)[-1]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping what is in them."""
        set_checkpointing(self, enable)


def init_pvt_v2(module: nn.Module) -> None:
    """Draw initial values: linear layers and norms as in PVT v1, convolutions by their fan-out.

    A convolution's weights have the variance 2 / fan_out (He et al., arXiv:1502.01852, eq. 14),
    where fan_out counts the outputs that one input of a group reaches.
    """
    init_linear_and_norm(module)
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            fan_out = math.prod(child.kernel_size) * child.out_channels // child.groups
            nn.init.normal_(child.weight, std=math.sqrt(2 / fan_out))
            if child.bias is not None:
                nn.init.zeros_(child.bias)


def pvt_v2_b0(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> PVTv2:
    """Build PVT v2 B0: 3.4 M parameters without its classifier."""
    return PVTv2(
        embed_dims=(32, 64, 160, 256),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(2, 2, 2, 2),
        use_linear_attention=False,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def pvt_v2_b1(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> PVTv2:
    """Build PVT v2 B1: 13.5 M parameters without its classifier."""
    return PVTv2(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(2, 2, 2, 2),
        use_linear_attention=False,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def pvt_v2_b2(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> PVTv2:
    """Build PVT v2 B2: 24.8 M parameters without its classifier."""
    return PVTv2(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 4, 6, 3),
        use_linear_attention=False,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def pvt_v2_b2_li(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> PVTv2:
    """Build PVT v2 B2-Li, with linear attention: 22.0 M parameters without its classifier."""
    return PVTv2(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 4, 6, 3),
        use_linear_attention=True,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def pvt_v2_b3(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> PVTv2:
    """Build PVT v2 B3: 44.7 M parameters without its classifier."""
    return PVTv2(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 4, 18, 3),
        use_linear_attention=False,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def pvt_v2_b4(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> PVTv2:
    """Build PVT v2 B4: 62.0 M parameters without its classifier."""
    return PVTv2(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 8, 27, 3),
        use_linear_attention=False,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def pvt_v2_b5(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> PVTv2:
    """Build PVT v2 B5: 81.4 M parameters without its classifier."""
    return PVTv2(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(4, 4, 4, 4),
        depths=(3, 6, 40, 3),
        use_linear_attention=False,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )
