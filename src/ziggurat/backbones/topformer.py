"""TopFormer, the token pyramid transformer (Zhang et al., CVPR 2022, arXiv:2204.05525).

Attention for mobile devices: a small convolutional network makes a pyramid of token maps, all of
them are pooled to one tiny grid and concatenated over channels, and a few transformer blocks see
every scale at once there, on 1/64 of the sides of the image. Their output, the semantics, is cut
back into the scales and injected into the local tokens, which it gates and shifts.

Shapes: B images, C channels, H x W map, N = H * W tokens, K = key width, V = value width of a head.
Maps are (B, C, H, W) in channels_last memory, so that their token view (B, N, C) costs nothing.
"""

from collections.abc import Sequence
from math import prod, sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.checkpointing import run_block, set_checkpointing
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.stochastic_depth import drop_path_rates, stochastic_depth
from ziggurat.layers.tokens import to_map, to_tokens
from ziggurat.ops.pooling import pyramid_average_pool

KEY_DIM = 16
VALUE_DIM = 32
"""Widths of a head: keys are half as wide as values, since they only have to be compared."""

DEPTH = 4
MLP_RATIO = 2

TOKEN_STRIDES = (4, 8, 16, 32)

Row = tuple[int, int, int, int]
"""An inverted residual of the token pyramid: kernel size, expansion, channels, stride."""


class Attention(nn.Module):
    """Self-attention of which every projection is a 1x1 convolution with a batch norm.

    There is no other norm in a block: batch norms fold into the convolutions at inference, which a
    LayerNorm in front could not.

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = ConvNorm(dim, num_heads * KEY_DIM, 1)
        self.k = ConvNorm(dim, num_heads * KEY_DIM, 1)
        self.v = ConvNorm(dim, num_heads * VALUE_DIM, 1)
        self.proj = ConvNorm(num_heads * VALUE_DIM, dim, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Mix tokens."""
        q, k, v = (self._split_heads(layer(x)) for layer in (self.q, self.k, self.v))
        # Zeros change no product. With widths that differ PyTorch has no fused kernel, and holds
        # all N x N scores.
        q, k = (F.pad(t, (0, VALUE_DIM - KEY_DIM)) for t in (q, k))
        # No 1 / sqrt(K): the published weights were trained without it.
        y = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        y = to_map(y.transpose(1, 2).flatten(2), x.shape[2:])
        mixed: Tensor = self.proj(F.relu6(y))
        return mixed

    def _split_heads(self, x: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B heads N D"]:
        return to_tokens(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Feed-forward block with a depthwise convolution in the middle.

    Args:
        dim: Number of channels C.
        hidden_dim: Number of channels after the expansion.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = ConvNorm(dim, hidden_dim, 1)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.fc2 = ConvNorm(hidden_dim, dim, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Expand, look at the neighbours, project back; the caller adds the residual."""
        y: Tensor = self.fc2(F.relu6(self.dwconv(self.fc1(x))))
        return y


class Block(nn.Module):
    """Attention and feed-forward, each added to its input, without a norm in front.

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
        drop_path: Probability that a sample skips a branch in training.
    """

    def __init__(self, dim: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.attn = Attention(dim, num_heads)
        self.mlp = FeedForward(dim, dim * MLP_RATIO)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the map after both branches."""
        x = x + self.drop_path(self.attn(x))
        return x + self.drop_path(self.mlp(x))


class SemanticsInjection(nn.Module):
    """Semantics gate and shift the tokens of their scale: local * gate + shift.

    Args:
        in_channels: Channels of the tokens, and of the semantics of their scale.
        out_channels: Channels of the map that goes out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.local = ConvNorm(in_channels, out_channels, 1)
        self.gate = ConvNorm(in_channels, out_channels, 1)
        self.shift = ConvNorm(in_channels, out_channels, 1)

    def forward(
        self, tokens: Float[Tensor, "B C H W"], semantics: Float[Tensor, "B C h w"]
    ) -> Float[Tensor, "B out H W"]:
        """Return the injected map; semantics are enlarged after their small-grid arithmetic."""
        size = tokens.shape[2:]
        gate = F.interpolate(F.hardsigmoid(self.gate(semantics)), size, mode="bilinear")
        shift = F.interpolate(self.shift(semantics), size, mode="bilinear")
        injected: Tensor = self.local(tokens) * gate + shift
        return injected


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
        y = x if self.expand is None else F.relu(self.expand(x))
        y = self.project(F.relu(self.depthwise(y)))
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
        x = F.relu(self.stem(images))
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
            Block(self.num_features, num_heads, drop_path)
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
        height, width = tokens[-1].shape[2:]
        # Not -(-a // b): shapes with symbols could not be told to be equal through it.
        size = ((height - 1) // self.pool_stride + 1, (width - 1) // self.pool_stride + 1)
        x = torch.cat([pyramid_average_pool(t, [size])[0] for t in tokens], dim=1)
        for block in self.blocks:
            x = run_block(block, x, use_checkpointing=self.use_checkpointing)
        return x


def init_weights(model: nn.Module) -> None:
    """Draw convolutions from a normal distribution of sqrt(2 / fan out); biases 0, norms 1 and 0.

    A depthwise convolution counts the outputs of its own channel. Norms in front of a residual
    start at 1 like all others: with the official synchronised norms they start, and stay for the
    first step, at 0, since its loop looks for plain norms only.

    Args:
        model: The network, on which everything is drawn again.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def topformer_tiny(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, use_injection: bool = True
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
        injection_channels=128 if use_injection else None,
        semantics_stride=64 if use_injection else 32,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def topformer_small(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, use_injection: bool = True
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
        injection_channels=192 if use_injection else None,
        semantics_stride=64 if use_injection else 32,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def topformer_base(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, use_injection: bool = True
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
        injection_channels=256 if use_injection else None,
        semantics_stride=64 if use_injection else 32,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )
