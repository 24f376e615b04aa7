"""Cards of the semantic segmenters."""

from ziggurat.cards.card import (
    GPVIT_PAPER,
    P2T_PAPER,
    PVT_PAPER,
    PVT_V2_PAPER,
    TOPFORMER_PAPER,
    TRUNCATED,
    ModelCard,
)
from ziggurat.types import ImageSize

PVT_PAGE = f"github.com/whai362/PVT, segmentation; {PVT_PAPER}"
TOPFORMER_PAGE = f"github.com/hustvl/TopFormer; {TOPFORMER_PAPER}"
OTHER_DIGIT = "the published code has 3.03 M parameters as here; the table counts 0.08 G more"
MORE_COUNTED = "the table counts 0.06 G more"
ROUNDED_TWICE = "7.545 M, which the table rounds up"


def _segmenter(
    system: str,
    backbone: str,
    published: str,
    source: str,
    recipes: tuple[str, ...],
    *,
    name: str = "",
    drop_path_rate: float = 0.1,
    parameters: int | float | None = None,
    macs: float | None = None,
    size_note: str = "",
    input_size: ImageSize = (512, 512),
    num_classes: int | None = None,
    results: tuple[str, ...] = (),
) -> ModelCard:
    name = name or f"{system}_{backbone}"
    return ModelCard(
        name,
        "semantic_segmentation",
        system,
        backbone,
        input_size,
        published,
        source,
        tuple(f"{name}_{run}" for run in recipes),
        drop_path_rate,
        parameters,
        macs,
        size_note,
        num_classes,
        results=results,
    )


def _pvt(size: str, miou: str, drop_path_rate: float) -> ModelCard:
    return _segmenter(
        "semantic_fpn",
        f"pvt_{size}",
        miou,
        PVT_PAGE,
        ("40k_ade20k",),
        drop_path_rate=drop_path_rate,
    )


def _pvt_v2(size: str, miou: float, parameters: float, size_note: str = "") -> ModelCard:
    return _segmenter(
        "semantic_fpn",
        f"pvt_v2_{size}",
        f"{miou} mIoU, ADE20K val",
        PVT_V2_PAPER,
        ("80k_ade20k",),
        parameters=parameters,
        size_note=size_note,
    )


def _p2t(size: str, miou: float, parameters: float, drop_path_rate: float) -> ModelCard:
    return _segmenter(
        "semantic_fpn",
        f"p2t_{size}",
        f"{miou} mIoU, ADE20K val",
        P2T_PAPER,
        ("80k_ade20k",),
        drop_path_rate=drop_path_rate,
        parameters=parameters,
    )


def _gpvit(
    system: str, size: str, miou: float, parameters: int, drop_path_rate: float, note: str = ""
) -> ModelCard:
    return _segmenter(
        system,
        f"gpvit_{size}",
        f"{miou} mIoU, ADE20K val",
        GPVIT_PAPER,
        ("160k_ade20k",),
        drop_path_rate=drop_path_rate,
        parameters=parameters,
        size_note=note,
    )


def _topformer(
    size: str, mious: tuple[float, ...], parameters: float, macs: float, note: str = ""
) -> ModelCard:
    """Make the card of a size; its numbers are those of the first recipes, in their order."""
    on_ade20k = ("160k", "160k_4x8", "160k_448", "160k_448_4x8")[: len(mious)]
    other_data = ("80k_pascal_context", "80k_pascal_context_59", "80k_cocostuff10k")
    published = f"{mious[0]} mIoU; {mious[1]} with 32 images a step"
    if len(mious) > 2:
        published += f"; {mious[2]} and {mious[3]} at 448 x 448"
    return _segmenter(
        "topformer_seg",
        f"topformer_{size}",
        f"{published}, ADE20K val",
        TOPFORMER_PAGE,
        (*(f"{run}_ade20k" for run in on_ade20k), *other_data),
        name=f"topformer_seg_{size}",
        parameters=parameters,
        macs=macs,
        size_note=note,
        results=tuple(f"{miou} mIoU, ADE20K val" for miou in mious),
    )


def _on_cityscapes(size: str) -> ModelCard:
    return _segmenter(
        "topformer_seg_cityscapes",
        f"topformer_{size}",
        "no number in the authors' repository",
        TOPFORMER_PAGE,
        ("80k",) if size == "base" else ("160k",),
        name=f"topformer_seg_{size}_cityscapes",
        input_size=(512, 1024),
        num_classes=19,
    )


SEGMENTERS = (
    _pvt("tiny", "36.6 mIoU, ADE20K val (35.7 in the paper)", 0.1),
    _pvt("small", "41.9 mIoU, ADE20K val (39.8 in the paper)", 0.1),
    _pvt("medium", "43.5 mIoU, ADE20K val (41.6 in the paper)", 0.1),
    _pvt("large", "43.5 mIoU, ADE20K val (42.1 in the paper)", 0.1),
    _pvt_v2("b0", 37.2, 7.6, ROUNDED_TWICE),
    _pvt_v2("b1", 42.5, 17.8),
    _pvt_v2("b2_li", 45.1, 26.3),
    _pvt_v2("b2", 45.2, 29.1),
    _pvt_v2("b3", 47.3, 49.0),
    _pvt_v2("b4", 47.9, 66.3),
    _pvt_v2("b5", 48.7, 85.7),
    _p2t("tiny", 43.4, 15.4, 0.1),
    _p2t("small", 46.7, 27.8, 0.1),
    _p2t("base", 48.7, 39.8, 0.3),
    _p2t("large", 49.4, 58.1, 0.3),
    _gpvit("upernet", "l1", 49.1, 37, 0.1, TRUNCATED),
    _gpvit("upernet", "l2", 50.2, 53, 0.1),
    _gpvit("upernet", "l3", 51.7, 66, 0.2, TRUNCATED),
    _gpvit("upernet", "l4", 52.5, 107, 0.2),
    _gpvit("segformer", "l1", 46.9, 9, 0.1, TRUNCATED),
    _gpvit("segformer", "l2", 49.2, 24, 0.1),
    _gpvit("segformer", "l3", 50.8, 36, 0.2, TRUNCATED),
    _gpvit("segformer", "l4", 51.3, 76, 0.2),
    _topformer("tiny", (33.6, 34.6, 32.5, 33.4), 1.4, 0.6, MORE_COUNTED),
    _topformer("small", (36.5, 37.0), 3.1, 1.2, OTHER_DIGIT),
    _topformer("base", (38.3, 39.2), 5.1, 1.8),
    _on_cityscapes("tiny"),
    _on_cityscapes("base"),
)
