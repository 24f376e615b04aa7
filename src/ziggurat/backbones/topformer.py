"""TopFormer, the token pyramid transformer (Zhang et al., CVPR 2022, arXiv:2204.05525).

Attention for mobile devices: a small convolutional network makes a pyramid of token maps, all of
them are pooled to one tiny grid and concatenated over channels, and a few transformer blocks see
every scale at once there, on 1/64 of the sides of the image. Their output, the semantics, is cut
back into the scales and injected into the local tokens, which it gates and shifts. Transformer and
injection are in `layers/semantics.py`, since other convolutional pyramids can have them too.

Shapes: B images, C channels, H x W map. Maps are in channels_last memory.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.checkpointing import run_block, set_checkpointing
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.semantics import (
    DEPTH,
    SemanticsBlock,
    SemanticsInjection,
    init_weights,
    pool_tokens,
)
from ziggurat.layers.stochastic_depth import drop_path_rates

TOKEN_STRIDES = (4, 8, 16, 32)

Row = tuple[int, int, int, int]
"""An inverted residual of the token pyramid: kernel size, expansion, channels, stride."""


class InvertedResidual(nn.Module):
    """MobileNet V2's block (Sandler et al., arXiv:1801.04381), with ReLU in place of ReLU6.

    Args:
        in_channels: Channels of the map that comes in.
        row: Kernel size, expansion, channels of the map that goes out, and stride.
    """

    def __init__(self, in_channels: int, row: Row) -> None:
        super().__init__()
        kernel_size, expansion, out_channels, stride = row
        hidden = in_channels * expansion
        self.is_residual = stride == 1 and in_channels == out_channels
        self.expand = ConvNorm(in_channels, hidden, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(hidden, hidden, kernel_size, stride=stride, groups=hidden)
        self.project = ConvNorm(hidden, out_channels, 1)

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out h w"]:
        """Return the map, its sides divided by the stride and rounded up."""
        y = x if self.expand is None else self.expand(x).relu_()
        y = self.project(self.depthwise(y).relu_())
        return x + y if self.is_residual else y


class TokenPyramid(nn.Module):
    """Convolutional network whose maps of strides 4, 8, 16 and 32 are the tokens.

    Args:
        rows: Inverted residuals behind the stem.
        token_rows: Index of the row that gives each token map.
        in_channels: Channels of the images.
    """

    def __init__(self, rows: Sequence[Row], token_rows: Sequence[int], in_channels: int) -> None:
        super().__init__()
        self.use_checkpointing = False
        self.token_rows = tuple(token_rows)
        width = 16
        self.stem = ConvNorm(in_channels, width, 3, stride=2)
        self.layers = nn.ModuleList()
        for row in rows:
            self.layers.append(InvertedResidual(width, row))
            width = row[2]

    def forward(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the token maps, fine to coarse."""
        x = self.stem(images).relu_()
        tokens = []
        for i, layer in enumerate(self.layers):
            x = run_block(layer, x, use_checkpointing=self.use_checkpointing)
            if i in self.token_rows:
                tokens.append(x)
        return tokens


class TopFormer(nn.Module):
    """Token pyramid, transformer over its pooled and concatenated maps, injection.

    Args:
        rows: Inverted residuals of the token pyramid.
        token_rows: Index of the row that gives each token map.
        num_heads: Attention heads.
        injection_channels: Channels of the injected maps of strides 8, 16 and 32; None leaves the
            injection out, and the semantics themselves are the only map.
        semantics_stride: Input pixels per pixel of the semantics: 64 for segmentation and 32 for
            classification, of which only the latter's images have few pixels.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        in_channels: Channels of the images.

    Raises:
        ValueError: If `semantics_stride` is neither 32 nor 64.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        token_rows: Sequence[int],
        num_heads: int,
        injection_channels: int | None,
        semantics_stride: int,
        drop_path_rate: float,
        in_channels: int,
    ) -> None:
        super().__init__()
        if semantics_stride not in (32, 64):
            raise ValueError(f"semantics_stride must be 32 or 64, got {semantics_stride}")
        self.use_checkpointing = False
        self.token_channels = tuple(rows[i][2] for i in token_rows)
        self.pool_stride = semantics_stride // TOKEN_STRIDES[-1]
        self.num_features = sum(self.token_channels)
        self.pyramid = TokenPyramid(rows, token_rows, in_channels)
        self.blocks = nn.ModuleList(
            SemanticsBlock(self.num_features, num_heads, drop_path)
            for drop_path in drop_path_rates(drop_path_rate, (DEPTH,))[0]
        )
        # The finest tokens feed the transformer only.
        self.injections = nn.ModuleList()
        self.out_channels: tuple[int, ...] = (self.num_features,)
        self.out_strides: tuple[int, ...] = (semantics_stride,)
        if injection_channels is not None:
            for channels in self.token_channels[1:]:
                self.injections.append(SemanticsInjection(channels, injection_channels))
            self.out_channels = (injection_channels,) * len(self.injections)
            self.out_strides = TOKEN_STRIDES[1:]
        init_weights(self)

    def forward(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the injected maps of strides 8, 16 and 32, or the semantics without injection."""
        tokens = self.tokens(images)
        semantics = self.semantics(tokens)
        if not self.injections:
            return [semantics]
        by_scale = semantics.split(self.token_channels, dim=1)
        return [
            inject(local, part)
            for inject, local, part in zip(self.injections, tokens[1:], by_scale[1:], strict=True)
        ]

    def forward_features(self, images: Float[Tensor, "B in H W"]) -> Float[Tensor, "B C h w"]:
        """Return what a classifier reads: the semantics of all scales."""
        return self.semantics(self.tokens(images))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping what is in them."""
        set_checkpointing(self, enable)

    def tokens(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the token maps of strides 4, 8, 16 and 32."""
        tokens: list[Tensor] = self.pyramid(images.contiguous(memory_format=torch.channels_last))
        return tokens

    def semantics(self, tokens: list[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B C h w"]:
        """Pool token maps to one grid, where they see each other over all scales."""
        x = pool_tokens(tokens, self.pool_stride)
        for block in self.blocks:
            x = run_block(block, x, use_checkpointing=self.use_checkpointing)
        return x


def topformer_tiny(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, injection_channels: int | None = 128
) -> TopFormer:
    """Build TopFormer-Tiny: for segmentation, or for classification without injection."""
    return TopFormer(
        rows=(
            (3, 1, 16, 1),
            (3, 4, 16, 2),
            (3, 3, 16, 1),
            (5, 3, 32, 2),
            (5, 3, 32, 1),
            (3, 3, 64, 2),
            (3, 3, 64, 1),
            (5, 6, 96, 2),
            (5, 6, 96, 1),
        ),
        token_rows=(2, 4, 6, 8),
        num_heads=4,
        injection_channels=injection_channels,
        semantics_stride=32 if injection_channels is None else 64,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def topformer_small(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, injection_channels: int | None = 192
) -> TopFormer:
    """Build TopFormer-Small: for segmentation, or for classification without injection."""
    return TopFormer(
        rows=(
            (3, 1, 16, 1),
            (3, 4, 24, 2),
            (3, 3, 24, 1),
            (5, 3, 48, 2),
            (5, 3, 48, 1),
            (3, 3, 96, 2),
            (3, 3, 96, 1),
            (5, 6, 128, 2),
            (5, 6, 128, 1),
            (3, 6, 128, 1),
        ),
        token_rows=(2, 4, 6, 9),
        num_heads=6,
        injection_channels=injection_channels,
        semantics_stride=32 if injection_channels is None else 64,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def topformer_base(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, injection_channels: int | None = 256
) -> TopFormer:
    """Build TopFormer-Base: for segmentation, or for classification without injection."""
    return TopFormer(
        rows=(
            (3, 1, 16, 1),
            (3, 4, 32, 2),
            (3, 3, 32, 1),
            (5, 3, 64, 2),
            (5, 3, 64, 1),
            (3, 3, 128, 2),
            (3, 3, 128, 1),
            (5, 6, 160, 2),
            (5, 6, 160, 1),
            (3, 6, 160, 1),
        ),
        token_rows=(2, 4, 6, 9),
        num_heads=8,
        injection_channels=injection_channels,
        semantics_stride=32 if injection_channels is None else 64,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )
