"""GPViT for detection: an adapter gives the plain transformer a pyramid (ViT-Adapter).

GPViT has one map of stride 8; detectors want several. Beside the transformer runs a pyramid of
convolutional maps. Four times they exchange what they know by deformable attention: the pyramid is
injected into the transformer's map, three blocks run, and the pyramid extracts from the map again
(Chen et al., arXiv:2205.08534; GPViT, Yang et al., arXiv:2212.06795, section 4.2).

Shapes: B images, C channels, H x W map of stride 8, N pixels of the pyramid of strides 8, 16, 32.
The pyramid is (B, N, C), map by map; other maps are (B, C, H, W) in channels_last memory.
"""

from collections.abc import Sequence
from math import prod, sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.backbones.gpvit import NUM_GROUPS, PatchEmbed, init_gpvit, make_blocks
from ziggurat.layers.checkpointing import run_block, set_checkpointing
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.deformable_attention import DeformableAttention
from ziggurat.layers.pointwise import PointwiseConv
from ziggurat.layers.resize import resize_like
from ziggurat.layers.stochastic_depth import stochastic_depth
from ziggurat.layers.tokens import to_map, to_tokens
from ziggurat.ops.padding import crop
from ziggurat.types import ImageSize

NUM_DEFORM_HEADS = 6
NUM_POINTS = 4
NUM_LEVELS = 3
"""Deformable attention: heads, points a head reads on each map, maps of the pyramid."""

NUM_INTERACTIONS = 4
NUM_LAST_EXTRACTORS = 2
"""Extractors that follow the last interaction."""

STRIDES = (4, 8, 16, 32)
PRIOR_CHANNELS = (64, 128, 256, 256)
"""Strides and channels of the convolutional pyramid."""


class Injector(nn.Module):
    """The transformer's map reads the pyramid.

    Args:
        dim: Number of channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=1e-6)
        self.feat_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attn = DeformableAttention(dim, NUM_DEFORM_HEADS, NUM_LEVELS, NUM_POINTS)
        # From 0, so that training starts with the transformer as it was trained for images.
        self.gamma = nn.Parameter(torch.zeros(dim))

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        pyramid: Float[Tensor, "B N C"],
        sizes: Sequence[ImageSize],
    ) -> Float[Tensor, "B C H W"]:
        """Return the map with what it read; `sizes` are those of the pyramid's maps."""
        size = (x.shape[2], x.shape[3])
        tokens = to_tokens(x)
        read = self.attn(self.query_norm(tokens), (size,), self.feat_norm(pyramid), sizes)
        return to_map(tokens + self.gamma * read, size)


class Extractor(nn.Module):
    """The pyramid reads the transformer's map, and each of its maps mixes its neighbours.

    Args:
        dim: Number of channels C.
        drop_path: Probability that a sample skips the feed-forward block in training.
    """

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=1e-6)
        self.feat_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attn = DeformableAttention(dim, NUM_DEFORM_HEADS, 1, NUM_POINTS)
        self.ffn_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = PyramidFeedForward(dim, dim // 4)
        self.drop_path = stochastic_depth(drop_path)

    def forward(
        self,
        pyramid: Float[Tensor, "B N C"],
        sizes: Sequence[ImageSize],
        x: Float[Tensor, "B C H W"],
    ) -> Float[Tensor, "B N C"]:
        """Return the pyramid with what it read; `sizes` are those of its maps."""
        size = (x.shape[2], x.shape[3])
        features = self.feat_norm(to_tokens(x))
        pyramid = pyramid + self.attn(self.query_norm(pyramid), sizes, features, (size,))
        mixed: Tensor = pyramid + self.drop_path(self.mlp(self.ffn_norm(pyramid), sizes))
        return mixed


class PyramidFeedForward(nn.Module):
    """Feed-forward block with a depthwise convolution, which sees one map at a time.

    Args:
        dim: Number of channels C.
        hidden_dim: Number of channels between the linear layers.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(
        self, pyramid: Float[Tensor, "B N C"], sizes: Sequence[ImageSize]
    ) -> Float[Tensor, "B N C"]:
        """Project, look at the neighbours, project back; the caller adds the residual."""
        maps = [self.dwconv(x) for x in split_pyramid(self.fc1(pyramid), sizes)]
        y: Tensor = self.fc2(F.gelu(join_pyramid(maps)))
        return y


class SpatialPrior(nn.Module):
    """A small convolutional network, whose maps the adapter starts from.

    Args:
        in_channels: Channels of the images.
        dim: Number of channels C.
        strides: Strides of the maps that come out; a finer one is computed all the same.
    """

    def __init__(self, in_channels: int, dim: int, strides: Sequence[int]) -> None:
        super().__init__()
        first, *others = PRIOR_CHANNELS
        self.stem = nn.ModuleList((ConvNorm(in_channels, first, 3, stride=2),))
        self.stem.extend(ConvNorm(first, first, 3) for _ in range(2))
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.downs = nn.ModuleList(
            ConvNorm(before, after, 3, stride=2)
            for before, after in zip(PRIOR_CHANNELS, others, strict=False)
        )
        channels = dict(zip(STRIDES, PRIOR_CHANNELS, strict=True))
        self.projs = nn.ModuleDict({str(s): PointwiseConv(channels[s], dim) for s in strides})

    def forward(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B C _ _"]]:
        """Return the maps, fine to coarse; sides are divided by the strides and rounded up."""
        x = images.contiguous(memory_format=torch.channels_last)
        for layer in self.stem:
            x = F.relu(layer(x))
        maps = [self.pool(x)]
        for layer in self.downs:
            maps.append(F.relu(layer(maps[-1])))
        return [
            self.projs[str(stride)](x)
            for stride, x in zip(STRIDES, maps, strict=True)
            if str(stride) in self.projs
        ]


class GPViTAdapter(nn.Module):
    """A GPViT without its norms, and beside it a pyramid of strides 8, 16 and 32.

    Sides are those of the maps, rounded up, so images of every size work.
    Differs from GPViT/gpvit_adapter.py: there sides are divided without remainder, and images
    whose sides 32 does not divide fail.

    Args:
        embed_dim: Number of channels C.
        num_heads: Attention heads of a stripe block.
        num_group_heads: Attention heads of a group propagation block.
        num_groups: Group tokens of each block; 0 makes it a stripe block.
        num_stem_convs: Additional convolutions of the stem.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0. Extractors
            have it in full.
        in_channels: Channels of the images.
        is_single_stage: Whether the map of stride 4 is left out, as for the official RetinaNets.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_group_heads: int,
        num_groups: Sequence[int],
        num_stem_convs: int,
        drop_path_rate: float,
        in_channels: int,
        is_single_stage: bool,
    ) -> None:
        super().__init__()
        self.out_strides = STRIDES[1:] if is_single_stage else STRIDES
        self.out_channels = (embed_dim,) * len(self.out_strides)
        self.use_checkpointing = False
        self.patch_embed = PatchEmbed(in_channels, embed_dim, num_stem_convs)
        self.blocks = make_blocks(embed_dim, num_heads, num_group_heads, num_groups, drop_path_rate)
        self.prior = SpatialPrior(in_channels, embed_dim, self.out_strides)
        self.level_embed = nn.Parameter(torch.zeros(NUM_LEVELS, embed_dim))
        self.injectors = nn.ModuleList(Injector(embed_dim) for _ in range(NUM_INTERACTIONS))
        self.extractors = nn.ModuleList(
            Extractor(embed_dim, drop_path_rate)
            for _ in range(NUM_INTERACTIONS + NUM_LAST_EXTRACTORS)
        )
        self.up = None if is_single_stage else nn.ConvTranspose2d(embed_dim, embed_dim, 2, stride=2)
        self.norms = nn.ModuleDict({str(s): nn.BatchNorm2d(embed_dim) for s in self.out_strides})
        init_gpvit(self)
        init_adapter(self)

    def forward(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B C _ _"]]:
        """Return the maps, fine to coarse; a side that its stride does not divide is rounded up."""
        maps = self.prior(images)
        sizes = [(x.shape[2], x.shape[3]) for x in maps[-NUM_LEVELS:]]
        embeds = self.level_embed[:, None, :, None, None].unbind()
        pyramid = join_pyramid([x + e for x, e in zip(maps[-NUM_LEVELS:], embeds, strict=True)])
        x, pyramid = self._interact(self.patch_embed(images), pyramid, sizes)
        levels = split_pyramid(pyramid, sizes)
        if self.up is not None:
            finest = crop(crop(self.up(levels[0]), 2, maps[0].shape[2]), 3, maps[0].shape[3])
            levels = [maps[0] + finest, *levels]
        return [
            norm(level + (x if stride == 8 else resize_like(x, level)))
            for stride, level, norm in zip(
                self.out_strides, levels, self.norms.values(), strict=True
            )
        ]

    def _interact(
        self,
        x: Float[Tensor, "B C H W"],
        pyramid: Float[Tensor, "B N C"],
        sizes: Sequence[ImageSize],
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B N C"]]:
        """Run all blocks of the transformer, and let the pyramid take part."""

        def run(layer: nn.Module, *inputs: object) -> Tensor:
            return run_block(layer, *inputs, use_checkpointing=self.use_checkpointing)

        depth = len(self.blocks) // NUM_INTERACTIONS
        for i, injector in enumerate(self.injectors):
            x = run(injector, x, pyramid, sizes)
            for block in self.blocks[i * depth : (i + 1) * depth]:
                x = run(block, x)
            pyramid = run(self.extractors[i], pyramid, sizes, x)
        for extractor in self.extractors[NUM_INTERACTIONS:]:
            pyramid = run(extractor, pyramid, sizes, x)
        return x, pyramid

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping what is in them."""
        set_checkpointing(self, enable)


def init_adapter(model: GPViTAdapter) -> None:
    """Draw initial values of what is beside the transformer.

    Convolutions from a normal distribution by the values that they send out, deformable attention
    so that it looks around, and the marks of the levels from a normal distribution of 1.

    Args:
        model: The transformer and its linear layers have their values already.
    """
    nn.init.normal_(model.level_embed)
    for part in (model.prior, model.injectors, model.extractors, model.up):
        for child in () if part is None else part.modules():
            if isinstance(child, nn.Conv2d | nn.ConvTranspose2d):
                fan_out = prod(child.kernel_size) * child.out_channels // child.groups
                nn.init.normal_(child.weight, std=sqrt(2 / fan_out))
                if child.bias is not None:
                    nn.init.zeros_(child.bias)
            elif isinstance(child, DeformableAttention):
                child.reset_parameters()


def join_pyramid(maps: Sequence[Float[Tensor, "B C _ _"]]) -> Float[Tensor, "B N C"]:
    """Put the pixels of all maps one behind the other."""
    return torch.cat([to_tokens(x) for x in maps], dim=1)


def split_pyramid(
    pyramid: Float[Tensor, "B N C"], sizes: Sequence[ImageSize]
) -> list[Float[Tensor, "B C _ _"]]:
    """View the pixels as maps of these sizes again."""
    parts = pyramid.split([height * width for height, width in sizes], dim=1)
    return [to_map(part, size) for part, size in zip(parts, sizes, strict=True)]


def gpvit_l1_adapter(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, is_single_stage: bool = False
) -> GPViTAdapter:
    """Build GPViT-L1 for detection: 12.1 M parameters."""
    return GPViTAdapter(
        embed_dim=216,
        num_heads=12,
        num_group_heads=6,
        num_groups=NUM_GROUPS,
        num_stem_convs=0,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        is_single_stage=is_single_stage,
    )


def gpvit_l2_adapter(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, is_single_stage: bool = False
) -> GPViTAdapter:
    """Build GPViT-L2 for detection: 28.7 M parameters."""
    return GPViTAdapter(
        embed_dim=348,
        num_heads=12,
        num_group_heads=6,
        num_groups=NUM_GROUPS,
        num_stem_convs=1,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        is_single_stage=is_single_stage,
    )


def gpvit_l3_adapter(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, is_single_stage: bool = False
) -> GPViTAdapter:
    """Build GPViT-L3 for detection: 43.2 M parameters."""
    return GPViTAdapter(
        embed_dim=432,
        num_heads=12,
        num_group_heads=6,
        num_groups=NUM_GROUPS,
        num_stem_convs=1,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        is_single_stage=is_single_stage,
    )


def gpvit_l4_adapter(
    *, drop_path_rate: float = 0.0, in_channels: int = 3, is_single_stage: bool = False
) -> GPViTAdapter:
    """Build GPViT-L4 for detection: 87.7 M parameters."""
    return GPViTAdapter(
        embed_dim=624,
        num_heads=12,
        num_group_heads=6,
        num_groups=NUM_GROUPS,
        num_stem_convs=2,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        is_single_stage=is_single_stage,
    )
