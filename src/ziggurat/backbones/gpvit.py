"""GPViT, the high-resolution vision transformer with group propagation (arXiv:2212.06795).

Yang et al., ICLR 2023: no pyramid, the map keeps stride 8 from the first block to the last. Eight
of twelve blocks attend locally, in stripes. The other four let the whole image talk through a few
group tokens: they gather from all pixels, mix among themselves, and every pixel reads the result
back, at a cost that is linear in the number of pixels.

Shapes: B images, C channels, H x W map, N = H * W tokens, T group tokens, D = C / heads.
Maps are (B, C, H, W) in channels_last memory, so that their token view (B, N, C) costs nothing.
"""

from collections.abc import Sequence
from math import isqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.errors import ZigguratError
from ziggurat.layers.checkpointing import run_block, set_checkpointing
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.feed_forward import FeedForward
from ziggurat.layers.initialization import init_linear_and_norm
from ziggurat.layers.map_norm import MapNorm
from ziggurat.layers.pre_norm_block import FeedForwardBranch
from ziggurat.layers.stochastic_depth import add_branch, drop_path_rates, stochastic_depth
from ziggurat.layers.stripe_attention import StripeAttention
from ziggurat.layers.tokens import to_map, to_tokens
from ziggurat.ops.attention import attend
from ziggurat.ops.padding import pad_to_multiple
from ziggurat.ops.traced_sizes import is_known_true

NUM_GROUPS = (0, 64, 0, 0, 32, 0, 0, 32, 0, 0, 16, 0)
"""Group tokens of each block of every variant; a block without any attends in stripes."""

MLP_RATIO = 4
STEM_WIDTH = 64

GRID_SIDE = 28
"""Tokens a side at 224 x 224, for which the position embedding is learned."""


class Grouping(nn.Module):
    """Group tokens gather: each attends to all pixels (paper, figure 3b).

    Only keys are projected. The values are the normalised pixels themselves, and what a group token
    was is replaced, not added to: group tokens only say what to gather.

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_query = nn.LayerNorm(dim)
        self.norm_key = nn.LayerNorm(dim)
        self.k = nn.Linear(dim, dim)

    def forward(
        self, groups: Float[Tensor, "B T C"], tokens: Float[Tensor, "B N C"]
    ) -> Float[Tensor, "B T C"]:
        """Return what each group token gathered."""
        v = self.norm_key(tokens)
        gathered = F.scaled_dot_product_attention(
            _split_heads(self.norm_query(groups), self.num_heads),
            _split_heads(self.k(v), self.num_heads),
            _split_heads(v, self.num_heads),
        )
        return gathered.transpose(1, 2).flatten(2)


class GroupMixer(nn.Module):
    """Group tokens exchange what they gathered, as a layer of MLP-Mixer (arXiv:2105.01601).

    Args:
        dim: Number of channels C.
        num_groups: Number of group tokens T.
        drop_path: Probability that a sample skips a branch in training.
    """

    def __init__(self, dim: int, num_groups: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        # Half of the channels wide, not of the group tokens: the published weights are.
        self.token_mlp = _mlp(num_groups, dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.channel_mlp = _mlp(dim, MLP_RATIO * dim)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, groups: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Mix over the group tokens, then over the channels."""
        groups = groups + self.drop_path(self.token_mlp(self.norm1(groups).mT).mT)
        mixed: Tensor = groups + self.drop_path(self.channel_mlp(self.norm2(groups)))
        return mixed


class Ungrouping(nn.Module):
    """Every pixel reads from the group tokens and merges that with what it was.

    The merge is a projection of both side by side; there is no residual around it.

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
        drop_path: Probability that a sample reads nothing in training.
    """

    def __init__(self, dim: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_query = nn.LayerNorm(dim)
        self.norm_key = nn.LayerNorm(dim)
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)
        self.merge = nn.Linear(2 * dim, dim)
        self.drop_path = stochastic_depth(drop_path)

    def forward(
        self, tokens: Float[Tensor, "B N C"], groups: Float[Tensor, "B T C"]
    ) -> Float[Tensor, "B N C"]:
        """Return the tokens, each with what it read."""
        groups = self.norm_key(groups)
        read = attend(
            _split_heads(self.q(self.norm_query(tokens)), self.num_heads),
            _split_heads(self.k(groups), self.num_heads),
            _split_heads(self.v(groups), self.num_heads),
        )
        read = self.drop_path(self.proj(read.transpose(1, 2).flatten(2)))
        merged: Tensor = self.merge(torch.cat((tokens, read), dim=-1))
        return merged


class GroupPropagationBlock(FeedForwardBranch):
    """Group, mix, ungroup: every pixel hears of the whole image (paper, figure 3b).

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
        num_groups: Number of group tokens T.
        drop_path: Probability that a sample skips a branch in training.
    """

    def __init__(self, dim: int, num_heads: int, num_groups: int, drop_path: float) -> None:
        super().__init__()
        self.group_token = nn.Parameter(torch.zeros(1, num_groups, dim))
        self.group = Grouping(dim, num_heads)
        self.mixer = GroupMixer(dim, num_groups, drop_path)
        self.ungroup = Ungrouping(dim, num_heads, drop_path)
        self.norm2 = MapNorm(dim)
        self.mlp = FeedForward(dim, MLP_RATIO * dim)
        self.dwconv = ConvNorm(dim, dim, 3, groups=dim)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the map after propagation, feed-forward and a convolution."""
        tokens = to_tokens(x)
        groups = self.mixer(self.group(self.group_token.expand(x.shape[0], -1, -1), tokens))
        x = to_map(self.ungroup(tokens, groups), x.shape[2:])
        return F.relu(self.dwconv(self.mix_channels(x)))


class StripeBlock(FeedForwardBranch):
    """Attention in stripes and feed-forward, then a convolution over the stripes' borders.

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
        drop_path: Probability that a sample skips a branch in training.
    """

    def __init__(self, dim: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = MapNorm(dim, eps=1e-6)
        self.attn = StripeAttention(dim, num_heads)
        self.norm2 = MapNorm(dim, eps=1e-6)
        self.mlp = FeedForward(dim, MLP_RATIO * dim)
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the map after both branches and the convolution."""
        x = add_branch(x, lambda part: self.attn(self.norm1(part)), self.drop_path)
        y: Tensor = self.dwconv(self.mix_channels(x))
        return y


class PatchEmbed(nn.Module):
    """Convolutions to stride 8, and a learned position embedding.

    Args:
        in_channels: Channels of the images.
        out_channels: Channels of the embedding.
        num_stem_convs: 3x3 convolutions between the first one and the projection.
    """

    def __init__(self, in_channels: int, out_channels: int, num_stem_convs: int) -> None:
        super().__init__()
        self.stem = nn.ModuleList((ConvNorm(in_channels, STEM_WIDTH, 7, stride=2),))
        self.stem.extend(ConvNorm(STEM_WIDTH, STEM_WIDTH, 3) for _ in range(num_stem_convs))
        self.proj = nn.Conv2d(STEM_WIDTH, out_channels, 4, stride=4)
        self.pos_embed = nn.Parameter(torch.zeros(1, GRID_SIDE**2, out_channels))

    def forward(self, images: Float[Tensor, "B in H W"]) -> Float[Tensor, "B C h w"]:
        """Return the embedded map, its sides divided by 8 and rounded up."""
        x = images.contiguous(memory_format=torch.channels_last)
        for layer in self.stem:
            x = F.relu(layer(x))
        x = self.proj(pad_to_multiple(x, (2, 3), 4))
        return x + resize_positions(self.pos_embed, x.shape[2], x.shape[3])


def resize_positions(
    pos_embed: Float[Tensor, "1 N C"], height: int, width: int
) -> Float[Tensor, "1 C height width"]:
    """Return the position embedding of a square grid of N tokens as a map of another size."""
    side = isqrt(pos_embed.shape[1])
    grid = to_map(pos_embed, (side, side))
    if is_known_true(height == side) and is_known_true(width == side):
        return grid
    return F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)


class GPViT(nn.Module):
    """Twelve blocks at stride 8; the maps after some of them, each normalised, come out.

    Args:
        embed_dim: Number of channels C.
        num_heads: Attention heads of a stripe block.
        num_group_heads: Attention heads of a group propagation block.
        num_groups: Group tokens of each block; 0 makes it a stripe block.
        num_stem_convs: Additional convolutions of the stem.
        out_indices: Blocks whose maps come out, in order; the last block is one of them.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        in_channels: Channels of the images.

    Raises:
        ZigguratError: If `out_indices` is not increasing or does not end with the last block.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_group_heads: int,
        num_groups: Sequence[int],
        num_stem_convs: int,
        out_indices: Sequence[int],
        drop_path_rate: float,
        in_channels: int,
    ) -> None:
        super().__init__()
        last = len(num_groups) - 1
        if [*out_indices] != sorted({*out_indices, last} & {*range(last + 1)}):
            raise ZigguratError(
                f"out_indices must be increasing block numbers from 0 that end with {last}, the "
                f"last block, got {tuple(out_indices)}"
            )
        self.out_channels = (embed_dim,) * len(out_indices)
        self.out_strides = (8,) * len(out_indices)
        self.num_features = embed_dim
        self.use_checkpointing = False
        self.patch_embed = PatchEmbed(in_channels, embed_dim, num_stem_convs)
        self.blocks = make_blocks(embed_dim, num_heads, num_group_heads, num_groups, drop_path_rate)
        # On what comes out only: the next block gets the map as it is.
        self.norms = nn.ModuleDict({str(i): MapNorm(embed_dim, eps=1e-6) for i in out_indices})
        init_gpvit(self)

    def forward(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B C _ _"]]:
        """Return the maps; a side that 8 does not divide is rounded up."""
        x = self.patch_embed(images)
        maps = []
        for i, block in enumerate(self.blocks):
            x = run_block(block, x, use_checkpointing=self.use_checkpointing)
            if str(i) in self.norms:
                maps.append(self.norms[str(i)](x))
        return maps

    def forward_features(self, images: Float[Tensor, "B in H W"]) -> Float[Tensor, "B C h w"]:
        """Return what a classifier reads: the map after the last block."""
        return self.forward(images)[-1]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping what is in them."""
        set_checkpointing(self, enable)


def make_blocks(
    dim: int, num_heads: int, num_group_heads: int, num_groups: Sequence[int], drop_path_rate: float
) -> nn.ModuleList:
    """Build the blocks of a GPViT.

    Args:
        dim: Number of channels C.
        num_heads: Attention heads of a stripe block.
        num_group_heads: Attention heads of a group propagation block.
        num_groups: Group tokens of each block; 0 makes it a stripe block.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
    """
    blocks = nn.ModuleList()
    drop_paths = drop_path_rates(drop_path_rate, (len(num_groups),))[0]
    for groups, drop_path in zip(num_groups, drop_paths, strict=True):
        if groups:
            blocks.append(GroupPropagationBlock(dim, num_group_heads, groups, drop_path))
        else:
            blocks.append(StripeBlock(dim, num_heads, drop_path))
    return blocks


def init_gpvit(module: nn.Module) -> None:
    """Draw initial values: linear layers as usual, position embedding and group tokens too."""
    init_linear_and_norm(module)
    for name, parameter in module.named_parameters():
        if name.endswith(("pos_embed", "group_token")):
            nn.init.trunc_normal_(parameter, std=0.02, a=-2.0, b=2.0)


def _split_heads(t: Float[Tensor, "B N C"], num_heads: int) -> Float[Tensor, "B heads N D"]:
    return t.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _mlp(dim: int, hidden_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, dim))


def gpvit_l1(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, out_indices: Sequence[int] = (2, 5, 8, 11)
) -> GPViT:
    """Build GPViT-L1: 9.3 M parameters without its classifier."""
    return GPViT(
        embed_dim=216,
        num_heads=12,
        num_group_heads=6,
        num_groups=NUM_GROUPS,
        num_stem_convs=0,
        out_indices=out_indices,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def gpvit_l2(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, out_indices: Sequence[int] = (2, 5, 8, 11)
) -> GPViT:
    """Build GPViT-L2: 23.7 M parameters without its classifier."""
    return GPViT(
        embed_dim=348,
        num_heads=12,
        num_group_heads=6,
        num_groups=NUM_GROUPS,
        num_stem_convs=1,
        out_indices=out_indices,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def gpvit_l3(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, out_indices: Sequence[int] = (2, 5, 8, 11)
) -> GPViT:
    """Build GPViT-L3: 36.2 M parameters without its classifier."""
    return GPViT(
        embed_dim=432,
        num_heads=12,
        num_group_heads=6,
        num_groups=NUM_GROUPS,
        num_stem_convs=1,
        out_indices=out_indices,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def gpvit_l4(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, out_indices: Sequence[int] = (2, 5, 8, 11)
) -> GPViT:
    """Build GPViT-L4: 74.9 M parameters without its classifier."""
    return GPViT(
        embed_dim=624,
        num_heads=12,
        num_group_heads=6,
        num_groups=NUM_GROUPS,
        num_stem_convs=2,
        out_indices=out_indices,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )
