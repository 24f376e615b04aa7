"""Feature Pyramid Transformer (Zhang et al., ECCV 2020, arXiv:2007.09451).

Every map of a pyramid looks at itself and at every other one: at coarser maps for what things are
(grounding), at finer maps for how they look (rendering). What a map found is concatenated with the
map, and a convolution makes of it a map of the same size:

    P_l = conv3x3[ self(L_l), render(L_l, L_f) for finer f, ground(L_l, L_c) for coarser c, L_l ]

All of them read the laterals L, never each other's results. The concatenation is never made: a
convolution of it is the sum of convolutions of its parts, which are computed and forgotten one by
one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.drop import DropBlock2d
from torch import Tensor, nn

from ziggurat.errors import ZigguratError
from ziggurat.layers.checkpointing import run_block
from ziggurat.layers.conv_norm import NormBuilder
from ziggurat.layers.grounding_transformer import (
    EuclideanGrounding,
    GroundingTransformer,
    LocalGrounding,
)
from ziggurat.layers.group_norm import group_norm
from ziggurat.layers.pointwise import PointwiseConv
from ziggurat.layers.rendering_transformer import (
    PlainRendering,
    RenderingTransformer,
    resize_to,
)
from ziggurat.layers.self_transformer import DROPOUT, SelfTransformer
from ziggurat.ops.memory import available_bytes
from ziggurat.types import ImageSize

Formulas = Literal["official", "paper"]
Norm = Literal["group", "batch", "none"]
DROP_SIDE = 3

MAPS_AT_A_TIME = 8
"""Maps of the finest size that a pass without gradients holds beside the laterals."""
MAPS_OF_A_LOOK = 6
"""Maps that the gradient of a look needs."""
BUFFERS = 2**28
"""Bytes that chunks of attention take at most, whatever the size of the maps."""
SMALL_ENOUGH = 2**29
"""Bytes for which it does not pay to ask how much memory is left."""


class FeaturePyramidTransformer(nn.Module):
    """A pyramid in, a pyramid of the same sizes out.

    The published code and the paper differ. "official" is the code: grounding by dot products,
    rendering with norms and ReLU, laterals that do not know each other. "paper" is the paper's
    description, of which no code was published: grounding by distances in a mixture of softmaxes,
    rendering without norms, and laterals summed from fine to coarse. Self-transformers are the
    same.

    Args:
        in_channels: Channels of the maps, fine to coarse; two maps at least.
        in_strides: Their strides.
        out_channels: Channels of every map that goes out.
        formulas: Whose transformers.
        norm: Norm behind laterals and fusions; without one they have biases.
        inner_norm: Norm inside the transformers. Batch norm is the published code's, which trains
            it on two images at a time; group norm does not depend on the batch.
        dropout: Share of a self-transformer's attention that training sets to 0.
        drop_block: Share of what the transformers found that training sets to 0, in squares of 3
            pixels (Ghiasi et al., arXiv:1810.12890), the side that the code prepares and never
            uses.
        window: Side of the square that grounding reads, for segmentation; None for whole maps.
        key_budget: Most keys that a pixel reads in a softmax, or None for all. It bounds the cost,
            and changes results.

    Raises:
        ValueError: If there are fewer than two maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        out_channels: int = 256,
        *,
        formulas: Formulas = "official",
        norm: Norm = "group",
        inner_norm: Literal["group", "batch"] = "group",
        dropout: float = DROPOUT,
        drop_block: float = 0.0,
        window: int | None = None,
        key_budget: int | None = None,
    ) -> None:
        super().__init__()
        if len(in_channels) < 2:
            raise ValueError(f"a pyramid has two maps at least, got {len(in_channels)}")
        levels = range(len(in_channels))
        self.out_channels = (out_channels,) * len(levels)
        self.out_strides = tuple(in_strides)
        self.use_checkpointing = False
        inner: NormBuilder = nn.BatchNorm2d if inner_norm == "batch" else group_norm
        self.laterals = nn.ModuleList(_Projection(c, out_channels, norm) for c in in_channels)
        self.base: nn.Module = nn.Identity()
        if formulas == "paper":
            self.base = BottomUp(out_channels, in_strides)
        self.selfs = nn.ModuleList(
            SelfTransformer(out_channels, inner, dropout=dropout, key_budget=key_budget)
            for _ in levels
        )
        self.grounds, self.renders = nn.ModuleDict(), nn.ModuleDict()
        for fine, coarse in ((f, c) for f in levels for c in levels if f < c):
            ratio = max(1, round(in_strides[coarse] / in_strides[fine]))
            if formulas == "official":
                ground: nn.Module = GroundingTransformer(out_channels, inner)
                if window is not None:
                    ground = LocalGrounding(out_channels, window)
                render: nn.Module = RenderingTransformer(out_channels, ratio, inner)
            else:
                ground = EuclideanGrounding(out_channels, key_budget=key_budget, window=window)
                render = PlainRendering(out_channels, ratio)
            self.grounds[f"{fine}_{coarse}"] = ground
            self.renders[f"{coarse}_{fine}"] = render
        self.drop_block = nn.Identity() if drop_block == 0 else DropBlock2d(drop_block, DROP_SIDE)
        self.fusions = nn.ModuleList(Fusion(len(levels) + 1, out_channels, norm) for _ in levels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self, features: Sequence[Float[Tensor, "B _ _ _"]]
    ) -> list[Float[Tensor, "B C _ _"]]:
        """Return the enriched maps, fine to coarse."""
        if not torch.compiler.is_compiling():
            self._check_memory(features)
        maps = self._project(features)
        return [fuse(self._views(maps, level)) for level, fuse in enumerate(self.fusions)]

    def looks(
        self, features: Sequence[Float[Tensor, "1 _ _ _"]], x: float, y: float
    ) -> list["Look"]:
        """Return where the pixels at a place look: on their own map and on every coarser one.

        Args:
            features: Maps of one image.
            x: Place from the left, as a share of the maps' width.
            y: Place from the top, as a share of their height.
        """
        maps = self._project(features)
        looks = []
        for level, fine in enumerate(maps):
            height, width = fine.shape[2:]
            at = min(int(y * height), height - 1), min(int(x * width), width - 1)
            own = self.selfs[level]
            assert isinstance(own, SelfTransformer)
            looks.append(Look(level, level, own.attention(fine, *at)[0]))
            for other in range(level + 1, len(maps)):
                ground = self.grounds[f"{level}_{other}"]
                assert isinstance(
                    ground, GroundingTransformer | EuclideanGrounding | LocalGrounding
                )
                looks.append(Look(level, other, ground.attention(fine, maps[other], *at)[0]))
        return looks

    def predicted_bytes(self, sizes: Sequence[ImageSize], *, batch: int, learns: bool) -> int:
        """Return about how much memory a pass takes, beside its input and the weights.

        Nothing of size N x N is ever held. What remains are maps: without gradients the laterals
        and a few more of the finest, with them six for each look of each map; and the chunks that
        attention works on. On a CPU, in float32, a pass for 800 x 1344 pixels took 0.51 GiB of
        0.85 predicted, and 2.04 of 2.29 with its gradients.

        Args:
            sizes: Height and width of each map.
            batch: Number of images.
            learns: Whether what gradients need is kept.
        """
        numbers = [height * width * self.out_channels[0] for height, width in sizes]
        kept = sum(numbers) + MAPS_AT_A_TIME * max(numbers)
        if learns and not self.use_checkpointing:
            kept = MAPS_OF_A_LOOK * len(sizes) * sum(numbers)
        return 4 * batch * kept + BUFFERS

    def _check_memory(self, features: Sequence[Tensor]) -> None:
        """Refuse what would not fit, before hours of swapping or a killed process.

        Raises:
            ZigguratError: If a pass would take more memory than is left.
        """
        first = features[0]
        sizes = [(x.shape[2], x.shape[3]) for x in features]
        needed = self.predicted_bytes(sizes, batch=len(first), learns=torch.is_grad_enabled())
        if needed < SMALL_ENOUGH:
            return
        left = available_bytes(first.device)
        if left is not None and needed > left:
            raise ZigguratError(
                f"the Feature Pyramid Transformer needs about {needed / 2**30:.1f} GiB for "
                f"{len(first)} images whose finest map is {sizes[0][0]} x {sizes[0][1]}, and "
                f"{left / 2**30:.1f} GiB are left; take smaller images or fewer at a time"
            )

    def _project(self, features: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the maps that look at each other."""
        maps = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        based: Sequence[Tensor] = self.base(maps)
        return based

    def _views(self, maps: Sequence[Tensor], level: int) -> Iterator[Tensor]:
        """Yield what the map finds: in itself, in finer maps, in coarser ones; then the map."""
        x = maps[level]
        run = partial(run_block, use_checkpointing=self.use_checkpointing)
        yield self.drop_block(run(self.selfs[level], x))
        for fine in range(level - 1, -1, -1):
            yield self.drop_block(run(self.renders[f"{level}_{fine}"], x, maps[fine]))
        for coarse in range(level + 1, len(maps)):
            yield self.drop_block(run(self.grounds[f"{level}_{coarse}"], x, maps[coarse]))
        yield x


def find_transformer(model: nn.Module) -> FeaturePyramidTransformer | None:
    """Return the Feature Pyramid Transformer in a model, or None if there is none."""
    found = (part for part in model.modules() if isinstance(part, FeaturePyramidTransformer))
    return next(found, None)


@dataclass(frozen=True)
class Look:
    """Where a pixel looks.

    Attributes:
        level: Index of the map that the pixel is of.
        other: Index of the map that it looks at.
        weights: How much it reads of each place there.
    """

    level: int
    other: int
    weights: Float[Tensor, "h w"]


class Fusion(nn.Module):
    """A 3x3 convolution of concatenated maps, as the sum of convolutions of each.

    Args:
        num_maps: Number of maps.
        channels: Channels of each map, and of the result.
        norm: Norm behind it.
    """

    def __init__(self, num_maps: int, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_maps * channels, channels, 3, padding=1, bias=norm == "none")
        self.norm = _norm(norm, channels)

    def forward(self, maps: Iterator[Float[Tensor, "B C H W"]]) -> Float[Tensor, "B C H W"]:
        """Return the fused map; the maps are taken one after the other."""
        total, bias = None, self.conv.bias
        channels = self.conv.out_channels
        for x, weight in zip(maps, self.conv.weight.split(channels, dim=1), strict=True):
            part = F.conv2d(x, weight, bias, padding=1)
            bias = None
            total = part if total is None else total + part
        fused: Tensor = self.norm(total)
        return fused


class BottomUp(nn.Module):
    """Sums from fine to coarse: each map gets the next finer one, halved by a convolution.

    Liu et al., arXiv:1803.01534, section 3.1.

    Args:
        channels: Channels of every map.
        strides: Strides of the maps, fine to coarse.
    """

    def __init__(self, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, max(1, round(coarse / fine)), padding=1)
            for fine, coarse in zip(strides[:-1], strides[1:], strict=True)
        )

    def forward(self, maps: Sequence[Float[Tensor, "B C _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        """Return the sums, fine to coarse."""
        sums = [maps[0]]
        for conv, x in zip(self.convs, maps[1:], strict=True):
            sums.append(x + resize_to(conv(sums[-1]), x))
        return sums


class _Projection(nn.Sequential):
    """1x1 convolution and norm."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__(
            PointwiseConv(in_channels, out_channels, bias=norm == "none"),
            _norm(norm, out_channels),
        )


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    return group_norm(channels) if norm == "group" else nn.BatchNorm2d(channels)
