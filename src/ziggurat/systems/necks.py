"""Necks by name: maps of a backbone to levels of one width, as a head wants them."""

from typing import Literal

from ziggurat.errors import check_known
from ziggurat.necks.extended import ExtendedPyramid
from ziggurat.necks.fpn import FPN
from ziggurat.necks.fpt import FeaturePyramidTransformer, Formulas
from ziggurat.systems.pyramid import Pyramid

Neck = FPN | ExtendedPyramid

FPT_FORMULAS: dict[str, Formulas] = {"fpt": "official", "fpt_paper": "paper"}
NECKS = ("fpn", *FPT_FORMULAS)


def build_neck(
    name: str | None,
    pyramid: Pyramid,
    channels: int,
    *,
    start_level: int = 0,
    num_extra_levels: int = 0,
    extra_from: Literal["input", "output", "subsample"] = "output",
    has_norm: bool = False,
    window: int | None = None,
) -> Neck:
    """Build a neck with fresh weights.

    Args:
        name: "fpn"; "fpt", the Feature Pyramid Transformer of the published code, or "fpt_paper",
            that of the paper.
        pyramid: Gives the maps.
        channels: Channels of every level.
        start_level: Index of the finest map that is used.
        num_extra_levels: Levels beyond the coarsest map.
        extra_from: What the first of them is made of, as for `FPN`; a transformer makes it of its
            own coarsest level.
        has_norm: Whether an FPN has batch norms. A transformer has norms of its own.
        window: Side of the square that the paper's transformer grounds pixels in; None for all.
    """
    check_known("neck", name or "none", NECKS)
    if name == "fpn":
        return FPN(
            pyramid.out_channels,
            pyramid.out_strides,
            channels,
            start_level=start_level,
            num_extra_levels=num_extra_levels,
            extra_from=extra_from,
            has_norm=has_norm,
        )
    formulas = FPT_FORMULAS[name or ""]
    transformer = FeaturePyramidTransformer(
        pyramid.out_channels[start_level:],
        pyramid.out_strides[start_level:],
        channels,
        formulas=formulas,
        window=window if formulas == "paper" else None,
    )
    return ExtendedPyramid(
        transformer,
        start_level=start_level,
        num_extra_levels=num_extra_levels,
        by="subsample" if extra_from == "subsample" else "convolution",
    )
