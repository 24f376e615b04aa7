"""Semantics across scales, TopFormer's idea (Zhang et al., CVPR 2022, arXiv:2204.05525).

The token maps of all scales are pooled to one tiny grid and concatenated over channels, so that a
few transformer blocks see every scale at once there. What comes out, the semantics, is cut back
into the scales and injected into the local tokens, which it gates and shifts.

Shapes: B images, C channels, H x W map, N = H * W tokens, K = key width, V = value width of a head.
Maps are (B, C, H, W) in channels_last memory, so that their token view (B, N, C) costs nothing.
"""

from collections.abc import Sequence
from math import prod, sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.stochastic_depth import stochastic_depth
from ziggurat.layers.tokens import to_map, to_tokens
from ziggurat.ops.attention import attend
from ziggurat.ops.pooling import pyramid_average_pool

KEY_DIM = 16
VALUE_DIM = 32
"""Widths of a head: keys are half as wide as values, since they only have to be compared."""

DEPTH = 4
MLP_RATIO = 2


class SemanticsAttention(nn.Module):
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
        y = attend(q, k, v, scale=1.0)
        y = to_map(y.transpose(1, 2).flatten(2), x.shape[2:])
        mixed: Tensor = self.proj(F.relu6(y))
        return mixed

    def _split_heads(self, x: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B heads N D"]:
        return to_tokens(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class SemanticsFeedForward(nn.Module):
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


class SemanticsBlock(nn.Module):
    """Attention and feed-forward, each added to its input, without a norm in front.

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
        drop_path: Probability that a sample skips a branch in training.
    """

    def __init__(self, dim: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.attn = SemanticsAttention(dim, num_heads)
        self.mlp = SemanticsFeedForward(dim, dim * MLP_RATIO)
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


def pool_tokens(
    tokens: Sequence[Float[Tensor, "B _ _ _"]], pool_stride: int
) -> Float[Tensor, "B C h w"]:
    """Average the maps of all scales to one grid and concatenate them.

    Args:
        tokens: Maps, fine to coarse.
        pool_stride: Cells of the coarsest map per cell of the grid, along each side.
    """
    height, width = tokens[-1].shape[2:]
    # Not -(-a // b): shapes with symbols could not be told to be equal through it.
    size = ((height - 1) // pool_stride + 1, (width - 1) // pool_stride + 1)
    return torch.cat([pyramid_average_pool(t, [size])[0] for t in tokens], dim=1)


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
