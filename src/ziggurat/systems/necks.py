"""Necks by name: maps of a backbone to levels of one width, as a head wants them."""

from typing import Literal

from ziggurat.errors import check_known
from ziggurat.necks.extended import ExtendedPyramid
from ziggurat.necks.fpn import FPN
from ziggurat.necks.fpt import FeaturePyramidTransformer, Formulas
from ziggurat.systems.plan import Plan
from ziggurat.systems.pyramid import Pyramid

Neck = FPN | ExtendedPyramid

FPT_FORMULAS: dict[str, Formulas] = {
    "fpt": "official",
    "fpt_batch_norm": "official",
    "fpt_paper": "paper",
}
NECKS = ("fpn", *FPT_FORMULAS)


def build_neck(
    pyramid: Pyramid,
    plan: Plan,
    *,
    start_level: int = 0,
    num_extra_levels: int = 0,
    extra_from: Literal["input", "output", "subsample"] = "output",
    has_norm: bool = False,
    window: int | None = None,
) -> Neck:
    """Build a neck with fresh weights.

    Args:
        pyramid: Gives the maps.
        plan: Names the neck: "fpn"; "fpt", the Feature Pyramid Transformer of the published code;
            "fpt_batch_norm", the same with batch norms inside, as its files have them; or
            "fpt_paper", that of the paper.
        start_level: Index of the finest map that is used.
        num_extra_levels: Levels beyond the coarsest map.
        extra_from: What the first of them is made of, as for `FPN`; a transformer makes it of its
            own coarsest level.
        has_norm: Whether an FPN has batch norms. A transformer has norms of its own.
        window: Side of the square that the paper's transformer grounds pixels in, where the plan
            does not say; None for all.
    """
    check_known("neck", plan.neck or "none", NECKS)
    if plan.neck == "fpn":
        return FPN(
            pyramid.out_channels,
            pyramid.out_strides,
            plan.channels,
            start_level=start_level,
            num_extra_levels=num_extra_levels,
            extra_from=extra_from,
            has_norm=has_norm,
        )
    formulas = FPT_FORMULAS[plan.neck or ""]
    published_window = window if formulas == "paper" else None
    transformer = FeaturePyramidTransformer(
        pyramid.out_channels[start_level:],
        pyramid.out_strides[start_level:],
        plan.channels,
        formulas=formulas,
        inner_norm="batch" if plan.neck == "fpt_batch_norm" else "group",
        window=published_window if plan.grounding_window is None else plan.grounding_window,
        key_budget=plan.key_budget,
        self_levels=plan.self_levels,
        drop_block=plan.drop_block,
    )
    return ExtendedPyramid(
        transformer,
        start_level=start_level,
        num_extra_levels=num_extra_levels,
        by="subsample" if extra_from == "subsample" else "convolution",
    )
