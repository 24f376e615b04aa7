"""Cards of the classifiers."""

from ziggurat.cards.card import (
    GPVIT_PAPER,
    P2T_PAPER,
    PVT_PAPER,
    PVT_V2_PAPER,
    TOPFORMER_PAPER,
    TRUNCATED,
    ModelCard,
)

WITHOUT_HEAD = "the table counts the backbone only, here neck and classifier count too"
POOLING = "here the pooling counts too, which is written as matrix products"
OTHER_OPERATORS = "the table counts normalisation and activations too"


def _classifier(
    name: str,
    top1: float | None,
    source: str,
    drop_path_rate: float,
    *,
    parameters: float | None = None,
    macs: float | None = None,
    size_note: str = "",
    run: str = "300e_imagenet",
    result: str = "",
) -> ModelCard:
    published = f"{top1} % top-1, ImageNet-1k val" if top1 else "no weights were released"
    return ModelCard(
        name,
        "classification",
        "classifier",
        name,
        (224, 224),
        published,
        source,
        (f"{name}_{run}",) if top1 else (),
        drop_path_rate,
        parameters,
        macs,
        size_note,
        results=(result,) if result else (),
    )


_PVTS = (
    _classifier("pvt_tiny", 75.1, PVT_PAPER, 0.1, parameters=13.2, macs=1.9),
    _classifier("pvt_small", 79.8, PVT_PAPER, 0.1, parameters=24.5, macs=3.8),
    _classifier("pvt_medium", 81.2, PVT_PAPER, 0.3, parameters=44.2, macs=6.7),
    _classifier("pvt_large", 81.7, PVT_PAPER, 0.3, parameters=61.4, macs=9.8),
    _classifier("pvt_huge_v2", None, PVT_PAPER, 0.3),
)

_PVT_V2S = (
    _classifier("pvt_v2_b0", 70.5, PVT_V2_PAPER, 0.1, parameters=3.7, macs=0.6),
    _classifier("pvt_v2_b1", 78.7, PVT_V2_PAPER, 0.1, parameters=14.0, macs=2.1),
    _classifier("pvt_v2_b2", 82.0, PVT_V2_PAPER, 0.1, parameters=25.4, macs=4.0),
    _classifier("pvt_v2_b2_li", 82.1, PVT_V2_PAPER, 0.1, parameters=22.6, macs=3.9),
    _classifier("pvt_v2_b3", 83.1, PVT_V2_PAPER, 0.3, parameters=45.2, macs=6.9),
    _classifier("pvt_v2_b4", 83.6, PVT_V2_PAPER, 0.3, parameters=62.6, macs=10.1),
    _classifier(
        "pvt_v2_b5",
        83.8,
        PVT_V2_PAPER,
        0.3,
        parameters=82.0,
        macs=11.8,
        size_note=OTHER_OPERATORS,
    ),
)

_P2TS = (
    _classifier(
        "p2t_tiny",
        79.8,
        P2T_PAPER,
        0.1,
        parameters=11.6,
        macs=1.8,
    ),
    _classifier(
        "p2t_small",
        82.4,
        P2T_PAPER,
        0.1,
        parameters=24.1,
        macs=3.7,
        size_note=TRUNCATED,
    ),
    _classifier("p2t_medium", None, P2T_PAPER, 0.3),
    _classifier(
        "p2t_base",
        83.5,
        P2T_PAPER,
        0.3,
        parameters=36.2,
        macs=6.5,
        size_note=f"the published code has 36.1 M as here; {POOLING}",
    ),
    _classifier("p2t_large", 83.9, P2T_PAPER, 0.3, parameters=54.5, macs=9.8, size_note=POOLING),
)

# How the authors trained their classifiers is not published; PaddleViT trained the largest anew.
_PADDLEVIT = "300e_paddlevit_imagenet"
_NO_NUMBER = "no number published for this run"

_TOPFORMERS = (
    _classifier(
        "topformer_tiny",
        66.2,
        TOPFORMER_PAPER,
        0.1,
        parameters=1.5,
        macs=0.13,
        size_note=OTHER_OPERATORS,
        run=_PADDLEVIT,
        result=_NO_NUMBER,
    ),
    _classifier(
        "topformer_small",
        72.3,
        TOPFORMER_PAPER,
        0.1,
        parameters=3.1,
        macs=0.24,
        size_note=OTHER_OPERATORS,
        run=_PADDLEVIT,
        result=_NO_NUMBER,
    ),
    _classifier(
        "topformer_base",
        75.3,
        TOPFORMER_PAPER,
        0.1,
        parameters=5.1,
        macs=0.37,
        run=_PADDLEVIT,
        result="74.2 % top-1, ImageNet-1k val, by PaddleViT",
    ),
)

_GPVITS = (
    _classifier("gpvit_l1", 80.5, GPVIT_PAPER, 0.2, parameters=9.3, size_note=WITHOUT_HEAD),
    _classifier(
        "gpvit_l2",
        83.4,
        GPVIT_PAPER,
        0.2,
        parameters=23.8,
        size_note="the table fits neither the backbone, 23.7 M, nor the whole model",
    ),
    _classifier("gpvit_l3", 84.1, GPVIT_PAPER, 0.3, parameters=36.2, size_note=WITHOUT_HEAD),
    _classifier("gpvit_l4", 84.3, GPVIT_PAPER, 0.3, parameters=75.4, size_note=TRUNCATED),
)

CLASSIFIERS = (*_PVTS, *_PVT_V2S, *_P2TS, *_TOPFORMERS, *_GPVITS)
