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
from typing import Literal, get_args

import torch
from jaxtyping import Float
from timm.layers.drop import DropBlock2d
from torch import Tensor, nn

from ziggurat.errors import ZigguratError, check_known
from ziggurat.layers.checkpointing import run_block
from ziggurat.layers.conv_norm import NormBuilder
from ziggurat.layers.grounding_transformer import PARTS as GROUNDING_PARTS
from ziggurat.layers.grounding_transformer import (
    EuclideanGrounding,
    GroundingTransformer,
    LocalGrounding,
)
from ziggurat.layers.group_norm import group_norm
from ziggurat.layers.pointwise import PointwiseConv
from ziggurat.layers.rendering_transformer import PlainRendering, RenderingTransformer
from ziggurat.layers.self_transformer import DROPOUT, SelfTransformer
from ziggurat.layers.self_transformer import PARTS as SELF_PARTS
from ziggurat.necks.fpt_memory import BUFFERS, numbers_held
from ziggurat.necks.fpt_parts import BottomUp, Fusion, Norm, Projection
from ziggurat.ops.memory import TooLittleMemoryError, available_bytes
from ziggurat.ops.window_attention import check_window
from ziggurat.types import ImageSize

Formulas = Literal["official", "paper"]
InnerNorm = Literal["group", "batch"]
DROP_SIDE = 3

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
        in_strides: Their strides, which do not fall.
        out_channels: Channels of every map within, and of those that go out unless these are
            restored; they are cut into the parts of mixtures.
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
        self_levels: How many of the coarsest maps look at themselves, or None for all. On the
            finest that costs most; without it the model is another one.
        restores_channels: Whether a 1x1 convolution gives each map that goes out as many channels
            as it came in with, so that the pyramid fits between a backbone and its head.

    Raises:
        ZigguratError: If there are fewer than two maps, or an argument is none that is named here.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        out_channels: int = 256,
        *,
        formulas: Formulas = "official",
        norm: Norm = "group",
        inner_norm: InnerNorm = "group",
        dropout: float = DROPOUT,
        drop_block: float = 0.0,
        window: int | None = None,
        key_budget: int | None = None,
        self_levels: int | None = None,
        restores_channels: bool = False,
    ) -> None:
        super().__init__()
        check_known("formulas", formulas, get_args(Formulas))
        check_known("norm", norm, get_args(Norm))
        check_known("inner_norm", inner_norm, get_args(InnerNorm))
        _check_pyramid(in_channels, in_strides)
        _check_shares(dropout=dropout, drop_block=drop_block)
        if window is not None:
            check_window(window)
        if key_budget is not None and key_budget < 1:
            raise ZigguratError(f"key_budget must be at least 1, or None, got {key_budget}")
        parts = GROUNDING_PARTS if formulas == "paper" and window is None else SELF_PARTS
        if out_channels < 1 or out_channels % parts:
            raise ZigguratError(
                f"the maps of this Feature Pyramid Transformer are cut into {parts} equal parts, "
                f"got {out_channels} channels; take a multiple of {parts}"
            )
        levels = range(len(in_channels))
        if self_levels is not None and not 0 <= self_levels <= len(levels):
            raise ZigguratError(
                f"self_levels must be from 0 to the {len(levels)} maps, or None, got {self_levels}"
            )
        first = 0 if self_levels is None else len(levels) - self_levels
        self.width, self.restores_channels = out_channels, restores_channels
        self.out_channels = (out_channels,) * len(levels)
        if restores_channels:
            self.out_channels = tuple(in_channels)
        self.out_strides = tuple(in_strides)
        self.use_checkpointing = False
        inner: NormBuilder = nn.BatchNorm2d if inner_norm == "batch" else group_norm
        self.laterals = nn.ModuleList(Projection(c, out_channels, norm) for c in in_channels)
        self.base: nn.Module = nn.Identity()
        if formulas == "paper":
            self.base = BottomUp(out_channels, in_strides)
        self.selfs = nn.ModuleDict(
            {
                str(level): SelfTransformer(
                    out_channels, inner, dropout=dropout, key_budget=key_budget
                )
                for level in levels[first:]
            }
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
                of_keys = {"key_budget": key_budget} if window is None else {"window": window}
                ground = EuclideanGrounding(out_channels, **of_keys)
                render = PlainRendering(out_channels, ratio)
            self.grounds[f"{fine}_{coarse}"] = ground
            self.renders[f"{coarse}_{fine}"] = render
        self.drop_block = nn.Identity() if drop_block == 0 else DropBlock2d(drop_block, DROP_SIDE)
        self.fusions = nn.ModuleList(
            Fusion(len(levels) + (level >= first), out_channels, norm) for level in levels
        )
        self.restorations = nn.ModuleList(
            PointwiseConv(out_channels, c) if restores_channels else nn.Identity()
            for c in in_channels
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self, features: Sequence[Float[Tensor, "B _ _ _"]]
    ) -> list[Float[Tensor, "B C _ _"]]:
        """Return the enriched maps, fine to coarse."""
        if not torch.compiler.is_exporting():
            sizes = [(x.shape[2], x.shape[3]) for x in features]
            self.check_memory(sizes, len(features[0]), features[0].device)
        self._check_batch(len(features[0]))
        maps = self._project(features)
        parts = zip(self.fusions, self.restorations, strict=True)
        return [
            restore(fuse(self._views(maps, level))) for level, (fuse, restore) in enumerate(parts)
        ]

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
            if str(level) in self.selfs:
                own = self.selfs[str(level)]
                assert isinstance(own, SelfTransformer)
                looks.append(Look(level, level, own.attention(fine, *at)[0]))
            for other in range(level + 1, len(maps)):
                ground = self.grounds[f"{level}_{other}"]
                assert isinstance(
                    ground, GroundingTransformer | EuclideanGrounding | LocalGrounding
                )
                looks.append(Look(level, other, ground.attention(fine, maps[other], *at)[0]))
        return looks

    def sizes_for(self, image_size: ImageSize) -> list[ImageSize]:
        """Return the size of each map for images of a size, rounded up.

        Args:
            image_size: Height and width.
        """
        height, width = image_size
        return [(-(-height // stride), -(-width // stride)) for stride in self.out_strides]

    def predicted_bytes(
        self, sizes: Sequence[ImageSize], *, batch: int, learns: bool, on_cuda: bool = False
    ) -> int:
        """Return about how much memory a pass takes, beside its input and the weights.

        Args:
            sizes: Height and width of each map.
            batch: Number of images.
            learns: Whether what gradients need is kept, and the gradients of the weights.
            on_cuda: Whether it runs on an NVIDIA GPU, whose fused attention takes more.
        """
        looks = [
            (int(name.split("_")[0]), int(name.split("_")[-1]), look)
            for name, look in (*self.selfs.items(), *self.grounds.items(), *self.renders.items())
        ]
        numbers = batch * numbers_held(
            looks,
            sizes,
            self.width,
            learns=learns,
            forgets=self.use_checkpointing,
            on_cuda=on_cuda,
        )
        if self.restores_channels:
            numbers += batch * sum(
                height * width * channels
                for (height, width), channels in zip(sizes, self.out_channels, strict=True)
            )
        if learns:
            numbers += sum(parameter.numel() for parameter in self.parameters())
        return 4 * numbers + BUFFERS

    # What is left is asked when it runs, not when a graph is made.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def check_memory(self, sizes: Sequence[ImageSize], batch: int, device: torch.device) -> None:
        """Refuse what would not fit, before hours of swapping or a killed process.

        Args:
            sizes: Height and width of each map.
            batch: Number of images.
            device: Where it runs.

        Raises:
            TooLittleMemoryError: If a pass would take more memory than is left.
        """
        needed = self.predicted_bytes(
            sizes, batch=batch, learns=torch.is_grad_enabled(), on_cuda=device.type == "cuda"
        )
        if needed < SMALL_ENOUGH:
            return
        left = available_bytes(device)
        if left is not None and needed > left:
            raise TooLittleMemoryError(
                f"the Feature Pyramid Transformer needs about {needed / 2**30:.1f} GiB for "
                f"{batch} images whose finest map is {sizes[0][0]} x {sizes[0][1]}, and "
                f"{left / 2**30:.1f} GiB are left; take smaller images or fewer at a time"
            )

    def _check_batch(self, batch: int) -> None:
        """Refuse one image where a batch norm gathers statistics of one number for each channel.

        Raises:
            ZigguratError: If there is one image and rendering learns with batch norms.
        """
        if batch > 1 or not self.training:
            return
        gates = (x.gate.norm for x in self.renders.values() if isinstance(x, RenderingTransformer))
        if any(isinstance(x, nn.BatchNorm2d) and x.training for x in gates):
            raise ZigguratError(
                "the batch norms of this Feature Pyramid Transformer learn from two images a step "
                'at least, got one; take more, or group norms (neck "fpt")'
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
        if str(level) in self.selfs:
            yield self.drop_block(run(self.selfs[str(level)], x))
        for fine in range(level - 1, -1, -1):
            yield self.drop_block(run(self.renders[f"{level}_{fine}"], x, maps[fine]))
        for coarse in range(level + 1, len(maps)):
            yield self.drop_block(run(self.grounds[f"{level}_{coarse}"], x, maps[coarse]))
        yield x


def _check_pyramid(in_channels: Sequence[int], in_strides: Sequence[int]) -> None:
    """Raise if these are no maps of a pyramid.

    Raises:
        ZigguratError: If they are not.
    """
    if len(in_channels) < 2:
        raise ZigguratError(f"a pyramid has two maps at least, got {len(in_channels)}")
    if len(in_channels) != len(in_strides) or min(*in_channels, *in_strides) < 1:
        raise ZigguratError(
            "in_channels and in_strides must have a number above 0 for each map, got "
            f"{tuple(in_channels)} and {tuple(in_strides)}"
        )
    if list(in_strides) != sorted(in_strides):
        raise ZigguratError(f"in_strides must go from fine to coarse, got {tuple(in_strides)}")


def _check_shares(**shares: float) -> None:
    """Raise if a share leaves nothing, or is none.

    Raises:
        ZigguratError: If one is.
    """
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ZigguratError(f"{name} must be at least 0 and below 1, got {share:g}")


def find_transformer(model: nn.Module) -> FeaturePyramidTransformer | None:
    """Return the Feature Pyramid Transformer in a model, or None if there is none."""
    found = (part for part in model.modules() if isinstance(part, FeaturePyramidTransformer))
    return next(found, None)


def check_images_fit(neck: nn.Module, images: Float[Tensor, "B 3 H W"]) -> None:
    """Refuse images whose maps a Feature Pyramid Transformer has no memory for.

    A model asks before its backbone runs. In a graph the neck asks by itself.

    Args:
        neck: Of a model; one without a transformer takes all images.
        images: What comes in.
    """
    transformer = None if torch.compiler.is_compiling() else find_transformer(neck)
    if transformer is not None:
        sizes = transformer.sizes_for((images.shape[2], images.shape[3]))
        transformer.check_memory(sizes, len(images), images.device)


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
