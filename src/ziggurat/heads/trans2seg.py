"""Trans2Seg's head (Xie et al., IJCAI 2021, arXiv:2101.08461): a class looks itself up in an image.

A learned prototype of each class is a query to a transformer decoder. Where its attention lies is
where the class is: the attention maps of the last layer, one a head, are the mask already, which a
small convolutional head, the same for every class, sharpens with the backbone's finest map.

Built from the paper, and the backbone's coarsest map read as PVT reads it (arXiv:2102.12122,
section 5.4). No official file or output was at hand: the order of norms, the sine positions where
the paper learns them (any image size will do), and the widths of the small head are not verified,
and official weights do not load.

Shapes: B images, K classes, C channels, h x w the coarsest map, H x W the finest, M heads.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.query_attention import QueryAttention, QueryFeedForward
from ziggurat.layers.resize import resize_like
from ziggurat.layers.sine_position import sine_position

DEPTH = 4
"""Layers of the encoder, and of the decoder."""
NUM_HEADS = 8
MLP_RATIO = 3
SMALL_CHANNELS = 64
"""Width of the convolutional head, of which every class has its own maps."""


class Trans2SegHead(nn.Module):
    """Encode the coarsest map, ask it for each class, sharpen the attention.

    The last maps are K * 64 channels at the finest stride: many classes want much memory.

    Args:
        in_channels: Channels of each map, fine to coarse.
        num_classes: Number of classes K.
        channels: Width C of the transformer, a multiple of 8.

    Raises:
        ValueError: If 8 does not divide `channels`.
    """

    def __init__(
        self, in_channels: Sequence[int], num_classes: int, *, channels: int = 256
    ) -> None:
        super().__init__()
        if channels % NUM_HEADS:
            raise ValueError(f"channels must be a multiple of {NUM_HEADS}, got {channels}")
        self.projection = nn.Conv2d(in_channels[-1], channels, 1)
        self.encoder = nn.ModuleList(_Layer(channels) for _ in range(DEPTH))
        self.memory_norm = nn.LayerNorm(channels)
        self.prototypes = nn.Parameter(torch.empty(num_classes, channels))
        self.decoder = nn.ModuleList(_Layer(channels) for _ in range(DEPTH - 1))
        self.attention_maps = AttentionMaps(channels)
        self.sharpening = _SmallHead(channels, in_channels[0])
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B K H W"]:
        """Return logits at the stride of the finest map."""
        x = self.projection(features[-1])
        size = x.shape[2:]
        valid = torch.ones((1, *size), dtype=torch.bool, device=x.device)
        memory = (x + sine_position(valid, x.shape[1]).to(x.dtype)).flatten(2).mT
        for layer in self.encoder:
            memory = layer(memory, None)
        memory = self.memory_norm(memory)
        queries = self.prototypes.expand(len(x), -1, -1)
        for layer in self.decoder:
            queries = layer(queries, memory)
        attention = self.attention_maps(queries, memory).unflatten(3, size)
        logits: Tensor = self.sharpening(memory.mT.unflatten(2, size), attention, features[0])
        return logits


class _Layer(nn.Module):
    """Attention to a memory, or to the tokens themselves, then a feed-forward block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = QueryAttention(channels, NUM_HEADS)
        self.norm2 = nn.LayerNorm(channels)
        self.feed_forward = QueryFeedForward(channels, MLP_RATIO * channels)

    def forward(
        self, x: Float[Tensor, "B Q C"], memory: Float[Tensor, "B N C"] | None
    ) -> Float[Tensor, "B Q C"]:
        query = self.norm1(x)
        seen = query if memory is None else memory
        x = x + self.attention(query, seen, seen)
        y: Tensor = x + self.feed_forward(self.norm2(x))
        return y


class AttentionMaps(nn.Module):
    """Where each query looks: the weights of attention, whose values nobody needs.

    Args:
        channels: Number of channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)

    def forward(
        self, queries: Float[Tensor, "B K C"], memory: Float[Tensor, "B N C"]
    ) -> Float[Tensor, "B K M N"]:
        """Return for each class and head weights that add up to one over the cells."""
        q, k = (
            x.unflatten(2, (NUM_HEADS, -1)).transpose(1, 2)
            for x in (self.query(self.norm(queries)), self.key(memory))
        )
        weights = (q @ k.mT * q.shape[3] ** -0.5).softmax(dim=3)
        return weights.transpose(1, 2)


class _SmallHead(nn.Module):
    """Attention and features of a class, enlarged to the finest map and joined with it.

    The first convolution sees the image's features beside the attention of a class. It is split,
    since what it makes of the features is the same for all classes.
    """

    def __init__(self, channels: int, fine_channels: int) -> None:
        super().__init__()
        width = SMALL_CHANNELS
        self.feature_filter = ConvNorm(channels, channels, 3, groups=channels)
        self.attention_filter = ConvNorm(NUM_HEADS, NUM_HEADS, 3, groups=NUM_HEADS)
        self.feature_mixing = nn.Conv2d(channels, width, 1, bias=False)
        self.attention_mixing = nn.Conv2d(NUM_HEADS, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.coarse = _Separable(width)
        self.fine_projection = ConvNorm(fine_channels, width, 1)
        self.fine = _Separable(width)
        self.logits = nn.Conv2d(width, 1, 1)

    def forward(
        self,
        memory: Float[Tensor, "B C h w"],
        attention: Float[Tensor, "B K M h w"],
        finest: Float[Tensor, "B _ H W"],
    ) -> Float[Tensor, "B K H W"]:
        num_classes = attention.shape[1]
        shared = self.feature_mixing(self.feature_filter(memory).relu())
        own = self.attention_mixing(self.attention_filter(attention.flatten(0, 1)).relu())
        x = (own.unflatten(0, (-1, num_classes)) + shared[:, None]).flatten(0, 1)
        x = self.coarse(self.norm(x).relu())
        detail = self.fine_projection(finest).relu()
        x = resize_like(x, detail).unflatten(0, (-1, num_classes)) + detail[:, None]
        logits: Tensor = self.logits(self.fine(x.flatten(0, 1)))
        return logits.unflatten(0, (-1, num_classes))[:, :, 0]


class _Separable(nn.Module):
    """A depthwise and a pointwise convolution, both with norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(channels, channels, 3, groups=channels)
        self.pointwise = ConvNorm(channels, channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        y: Tensor = self.pointwise(self.depthwise(x).relu()).relu()
        return y
