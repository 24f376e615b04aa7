"""PVT, the Pyramid Vision Transformer (Wang et al., ICCV 2021, arXiv:2102.12122).

A transformer with the pyramid of a convolutional network: four stages of strides 4, 8, 16 and 32,
each a patch embedding, a learned position embedding and transformer blocks. Attention on the fine
maps is affordable because keys and values come from a reduced map; that is
`layers/spatial_reduction_attention.py`, which PVT v2 shares.

To classify, a class token joins in the last stage; dense prediction takes the maps, without it.

Shapes: B images, C channels, H x W map, N = H * W tokens.
Maps are (B, C, H, W) in channels_last memory, so that their token view (B, N, C) costs nothing.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.errors import ZigguratError
from ziggurat.layers.checkpointing import run_block, set_checkpointing
from ziggurat.layers.feed_forward import FeedForward
from ziggurat.layers.initialization import init_linear_and_norm
from ziggurat.layers.map_norm import MapNorm
from ziggurat.layers.pre_norm_block import PreNormBlock
from ziggurat.layers.spatial_reduction_attention import (
    SpatialReductionAttention,
    spatial_reduction,
)
from ziggurat.layers.stochastic_depth import drop_path_rates
from ziggurat.layers.tokens import to_map, to_tokens
from ziggurat.ops.traced_sizes import is_known_true

SR_RATIOS = (8, 4, 2, 1)
"""Side of the windows of spatial reduction in each stage; it halves as the map does."""

GRID_SIDES = (56, 28, 14, 7)
"""Patches a side of each stage at 224 x 224, for which its position embedding is learned."""

SMALLEST_IMAGE = 32
"""Shortest side, in pixels, that leaves one token in the last stage."""


class PatchEmbed(nn.Module):
    """Cut the map into squares and embed each of them: a convolution as wide as its stride.

    Args:
        in_channels: Channels of the map that comes in.
        out_channels: Channels of the embedding.
        stride: Side of a square.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, stride, stride=stride)
        self.norm = MapNorm(out_channels)

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out h w"]:
        """Return the embedded map; sides are rounded down, what is left over is not seen."""
        y: Tensor = self.norm(self.proj(x))
        return y


class Stage(nn.Module):
    """Patch embedding, position embedding, blocks.

    Args:
        in_channels: Channels of the map that comes in.
        dim: Number of channels C of the stage.
        stride: Stride of the patch embedding, 4 in the first stage and 2 after it.
        grid_side: Patches a side for which the position embedding is learned.
        num_heads: Number of attention heads.
        mlp_ratio: Expansion of the feed-forward blocks.
        sr_ratio: Side of the windows of spatial reduction.
        is_last: Whether the position embedding begins with a row for a class token.
        use_class_token: Whether there is a class token.
        drop_paths: Drop probability of each block; their number is the depth.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        stride: int,
        grid_side: int,
        num_heads: int,
        mlp_ratio: int,
        sr_ratio: int,
        is_last: bool,
        use_class_token: bool,
        drop_paths: Sequence[float],
    ) -> None:
        super().__init__()
        self.use_checkpointing = False
        self.grid_side = grid_side
        self.patch_embed = PatchEmbed(in_channels, dim, stride)
        # The row is there without a class token too, unused: so it is in the published files.
        self.pos_embed = nn.Parameter(torch.zeros(1, grid_side**2 + is_last, dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if use_class_token else None
        self.blocks = nn.ModuleList()
        for drop_path in drop_paths:
            attn = SpatialReductionAttention(dim, num_heads, spatial_reduction(dim, sr_ratio))
            mlp = FeedForward(dim, dim * mlp_ratio)
            self.blocks.append(PreNormBlock(dim, attn, mlp, drop_path))

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B C _ _"]:
        """Return the map of the stage; sizes are divided by the stride and rounded down.

        With a class token it is one column of 1 + N tokens, the class token first: blocks without
        spatial reduction do not depend on how their tokens lie in the map.
        """
        x = self.patch_embed(x)
        x = x + self._positions(x.shape[2], x.shape[3])
        if self.cls_token is not None:
            first = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)
            tokens = torch.cat((first, to_tokens(x)), dim=1)
            x = to_map(tokens, (tokens.shape[1], 1))
        for block in self.blocks:
            x = run_block(block, x, use_checkpointing=self.use_checkpointing)
        return x

    def _positions(self, height: int, width: int) -> Float[Tensor, "1 C h w"]:
        num_learned = self.grid_side**2
        rows = self.pos_embed[:, -num_learned:]
        if self.grid_side == GRID_SIDES[0] and _is_known(height * width == num_learned):
            # In raster order even for another shape, 112 x 448 pixels: so the published models do.
            return to_map(rows, (height, width))
        # Differs from PVT/classification/pvt.py: that fails where another stage has as many
        # patches as the first has learned positions for, at 448 x 448 and 896 x 896 pixels.
        return to_map(resize_positions(rows, (height, width)), (height, width))


def _is_known(condition: bool) -> bool:
    # A program that is exported with variable sizes cannot ask; it interpolates at all of them.
    return is_known_true(condition) if torch.compiler.is_exporting() else bool(condition)


class PVT(nn.Module):
    """Four stages of strides 4, 8, 16 and 32; a norm after them only where they classify.

    Args:
        embed_dims: Channels of each stage.
        num_heads: Attention heads of each stage.
        mlp_ratios: Expansion of the feed-forward blocks of each stage.
        depths: Number of blocks of each stage.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        in_channels: Channels of the images.
        use_class_token: Whether a class token joins in the last stage, and a norm follows it.
    """

    def __init__(
        self,
        embed_dims: Sequence[int],
        num_heads: Sequence[int],
        mlp_ratios: Sequence[int],
        depths: Sequence[int],
        drop_path_rate: float,
        in_channels: int,
        use_class_token: bool,
    ) -> None:
        super().__init__()
        self.out_channels = tuple(embed_dims)
        self.out_strides = (4, 8, 16, 32)
        self.num_features = embed_dims[-1]
        drop_paths = drop_path_rates(drop_path_rate, depths)
        self.stages = nn.ModuleList()
        for i, dim in enumerate(embed_dims):
            is_last = i == len(embed_dims) - 1
            self.stages.append(
                Stage(
                    in_channels=in_channels if i == 0 else embed_dims[i - 1],
                    dim=dim,
                    stride=4 if i == 0 else 2,
                    grid_side=GRID_SIDES[i],
                    num_heads=num_heads[i],
                    mlp_ratio=mlp_ratios[i],
                    sr_ratio=SR_RATIOS[i],
                    is_last=is_last,
                    use_class_token=use_class_token and is_last,
                    drop_paths=drop_paths[i],
                )
            )
        self.norm = nn.LayerNorm(embed_dims[-1], eps=1e-6) if use_class_token else None
        init_pvt(self)

    def forward(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the maps C2..C5, not normed; a side that its stride does not divide rounds down.

        A class token has been at work in C5, but is not part of the map.
        """
        *maps, last = self._run_stages(images)
        if self.norm is not None:
            height, width = images.shape[2] // 32, images.shape[3] // 32
            last = to_map(to_tokens(last)[:, 1:], (height, width))
            last = last.contiguous(memory_format=torch.channels_last)
        return [*maps, last]

    def forward_features(self, images: Float[Tensor, "B in H W"]) -> Float[Tensor, "B ..."]:
        """Return what a classifier reads: normed tokens (B, 1 + N, C), the class token first.

        Without a class token it is the map C5.
        """
        last = self._run_stages(images)[-1]
        return last if self.norm is None else self.norm(to_tokens(last))

    def _run_stages(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        if not torch.compiler.is_compiling() and min(images.shape[2:]) < SMALLEST_IMAGE:
            raise ZigguratError(
                f"PVT needs images of at least {SMALLEST_IMAGE} x {SMALLEST_IMAGE} pixels, got "
                f"{images.shape[2]} x {images.shape[3]}: the last stage would have no token; "
                "enlarge or pad them"
            )
        x = images.contiguous(memory_format=torch.channels_last)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping what is in them."""
        set_checkpointing(self, enable)


def resize_positions(
    positions: Float[Tensor, "1 N C"], size: Sequence[int]
) -> Float[Tensor, "1 M C"]:
    """Interpolate the embeddings of a square grid bilinearly; at its own size nothing changes.

    Args:
        positions: Embeddings of the patches of a square grid in row-major order.
        size: Height and width of the new grid.
    """
    side = math.isqrt(positions.shape[1])
    grid = to_map(positions, (side, side))
    return to_tokens(F.interpolate(grid, size=tuple(size), mode="bilinear", align_corners=False))


def init_pvt(backbone: PVT) -> None:
    """Draw linear weights, position embeddings and class token from a normal distribution of 0.02.

    Biases are 0, norms 1 and 0; convolutions keep PyTorch's own initial values.
    """
    init_linear_and_norm(backbone)
    for name, parameter in backbone.named_parameters():
        if name.endswith(("pos_embed", "cls_token")):
            nn.init.trunc_normal_(parameter, std=0.02, a=-2.0, b=2.0)


def pvt_tiny(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, use_class_token: bool = False
) -> PVT:
    """Build PVT-Tiny: 12.7 M parameters for dense prediction."""
    return PVT(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(2, 2, 2, 2),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        use_class_token=use_class_token,
    )


def pvt_small(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, use_class_token: bool = False
) -> PVT:
    """Build PVT-Small: 24.0 M parameters for dense prediction."""
    return PVT(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 4, 6, 3),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        use_class_token=use_class_token,
    )


def pvt_medium(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, use_class_token: bool = False
) -> PVT:
    """Build PVT-Medium: 43.7 M parameters for dense prediction."""
    return PVT(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 4, 18, 3),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        use_class_token=use_class_token,
    )


def pvt_large(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, use_class_token: bool = False
) -> PVT:
    """Build PVT-Large: 60.9 M parameters for dense prediction."""
    return PVT(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 8, 27, 3),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        use_class_token=use_class_token,
    )


def pvt_huge_v2(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, use_class_token: bool = False
) -> PVT:
    """Build PVT-Huge, which exists in the official code only: no weights are published."""
    return PVT(
        embed_dims=(128, 256, 512, 768),
        num_heads=(2, 4, 8, 12),
        mlp_ratios=(8, 8, 4, 4),
        depths=(3, 10, 60, 3),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        use_class_token=use_class_token,
    )
