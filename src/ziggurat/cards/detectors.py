"""Cards of the detectors: boxes only, and instance segmentation."""

from dataclasses import dataclass

from ziggurat.cards.card import (
    GPVIT_PAPER,
    P2T_PAPER,
    PVT_PAPER,
    PVT_V2_PAPER,
    TRUNCATED,
    ModelCard,
)
from ziggurat.types import Task

PVT_PAGE = f"github.com/whai362/PVT; {PVT_PAPER}"
MORE_COUNTED = "the authors' counter finds 0.5 G more"


@dataclass(frozen=True)
class _Run:
    """A published training run.

    Attributes:
        schedule: Length, and size of the images where it is unusual: "1x", "3x", "1x_640", "50e".
        box_ap: AP of boxes on COCO val2017 in percent, or None where no number is stated.
        mask_ap: AP of masks, or None where there are none.
    """

    schedule: str
    box_ap: float | None
    mask_ap: float | None = None

    @property
    def result(self) -> str:
        return "" if self.box_ap is None else f"{self.in_words}, COCO val2017"

    @property
    def in_words(self) -> str:
        masks = "" if self.mask_ap is None else f", {self.mask_ap} mask AP"
        return f"{self.box_ap} box AP{masks}"


def _detector(
    system: str,
    backbone: str,
    source: str,
    *runs: _Run,
    drop_path_rate: float = 0.1,
    parameters: int | float | None = None,
    macs: float | None = None,
    size_note: str = "",
) -> ModelCard:
    name = f"{system}_{backbone.removesuffix('_adapter')}"
    task: Task = "instance_segmentation" if "mask_rcnn" in system else "detection"
    stated = [run for run in runs if run.box_ap is not None]
    if len(stated) == 1:
        published = stated[0].result
    elif stated:
        numbers = "; ".join(f"{run.in_words} ({run.schedule})" for run in stated)
        published = f"{numbers}, COCO val2017"
    else:
        published = "no number in the authors' repository"
    return ModelCard(
        name,
        task,
        system,
        backbone,
        (800, 1280),
        published,
        source,
        tuple(f"{name}_{run.schedule}_coco" for run in runs),
        drop_path_rate,
        parameters,
        macs,
        size_note,
        results=tuple(
            "" if run.box_ap is None else f"{run.in_words}, COCO val2017" for run in runs
        ),
    )


_RETINANETS = (
    _detector("retinanet", "pvt_tiny", PVT_PAGE, _Run("1x", 36.7)),
    _detector("retinanet", "pvt_small", PVT_PAGE, _Run("1x", 40.4), _Run("1x_640", 38.7)),
    _detector("retinanet", "pvt_medium", PVT_PAGE, _Run("1x", 41.9), drop_path_rate=0.0),
    _detector("retinanet", "pvt_large", PVT_PAGE, _Run("1x", 42.6), drop_path_rate=0.0),
    _detector("retinanet", "pvt_v2_b0", PVT_V2_PAPER, _Run("1x", 37.2)),
    _detector("retinanet", "pvt_v2_b1", PVT_V2_PAPER, _Run("1x", 41.2)),
    _detector("retinanet", "pvt_v2_b2_li", PVT_V2_PAPER, _Run("1x", 43.6)),
    _detector("retinanet", "pvt_v2_b2", PVT_V2_PAPER, _Run("1x", 44.6)),
    _detector("retinanet", "pvt_v2_b3", PVT_V2_PAPER, _Run("1x", 45.9)),
    _detector("retinanet", "pvt_v2_b4", PVT_V2_PAPER, _Run("1x", 46.1)),
    _detector("retinanet", "pvt_v2_b5", PVT_V2_PAPER, _Run("1x", 46.2)),
    _detector("retinanet", "p2t_tiny", P2T_PAPER, _Run("1x", 41.3), parameters=21.1),
    _detector("retinanet", "p2t_small", P2T_PAPER, _Run("1x", 44.4), parameters=33.8),
    _detector(
        "retinanet", "p2t_base", P2T_PAPER, _Run("1x", 46.1), drop_path_rate=0.3, parameters=45.8
    ),
    _detector(
        "retinanet", "p2t_large", P2T_PAPER, _Run("1x", 47.2), drop_path_rate=0.3, parameters=64.4
    ),
    _detector(
        "retinanet",
        "gpvit_l1_adapter",
        GPVIT_PAPER,
        _Run("1x", 45.8),
        _Run("3x", 48.1),
        parameters=21,
    ),
    _detector(
        "retinanet",
        "gpvit_l2_adapter",
        GPVIT_PAPER,
        _Run("1x", 48.0),
        _Run("3x", 49.0),
        parameters=37,
        size_note=TRUNCATED,
    ),
    _detector(
        "retinanet",
        "gpvit_l3_adapter",
        GPVIT_PAPER,
        _Run("1x", 48.3),
        _Run("3x", 49.4),
        parameters=52,
    ),
    _detector(
        "retinanet",
        "gpvit_l4_adapter",
        GPVIT_PAPER,
        _Run("1x", 48.7),
        _Run("3x", 49.8),
        parameters=96,
    ),
)

_MASK_RCNNS = (
    _detector("mask_rcnn", "pvt_tiny", PVT_PAGE, _Run("1x", 36.7, 35.1)),
    _detector("mask_rcnn", "pvt_small", PVT_PAGE, _Run("1x", 40.4, 37.8)),
    _detector("mask_rcnn", "pvt_medium", PVT_PAGE, _Run("1x", 42.0, 39.0), drop_path_rate=0.0),
    _detector("mask_rcnn", "pvt_large", PVT_PAGE, _Run("1x", 42.9, 39.5), drop_path_rate=0.0),
    _detector(
        "mask_rcnn", "pvt_v2_b0", PVT_V2_PAPER, _Run("1x", 38.2, 36.2), _Run("3x", 41.6, 38.2)
    ),
    _detector("mask_rcnn", "pvt_v2_b1", PVT_V2_PAPER, _Run("1x", 41.8, 38.8)),
    _detector("mask_rcnn", "pvt_v2_b2_li", PVT_V2_PAPER, _Run("1x", 44.1, 40.5), _Run("3x", None)),
    _detector(
        "mask_rcnn", "pvt_v2_b2", PVT_V2_PAPER, _Run("1x", 45.3, 41.2), _Run("3x", 47.8, 43.1)
    ),
    _detector("mask_rcnn", "pvt_v2_b3", PVT_V2_PAPER, _Run("1x", 47.0, 42.5)),
    _detector("mask_rcnn", "pvt_v2_b4", PVT_V2_PAPER, _Run("1x", 47.5, 42.7)),
    _detector("mask_rcnn", "pvt_v2_b5", PVT_V2_PAPER, _Run("1x", 47.4, 42.5)),
    _detector("mask_rcnn", "p2t_tiny", P2T_PAPER, _Run("1x", 43.3, 39.6), parameters=31.3),
    _detector("mask_rcnn", "p2t_small", P2T_PAPER, _Run("1x", 45.5, 41.4), parameters=43.7),
    _detector(
        "mask_rcnn",
        "p2t_base",
        P2T_PAPER,
        _Run("1x", 47.2, 42.7),
        drop_path_rate=0.3,
        parameters=55.7,
    ),
    _detector(
        "mask_rcnn",
        "p2t_large",
        P2T_PAPER,
        _Run("1x", 48.3, 43.5),
        drop_path_rate=0.3,
        parameters=74.0,
    ),
    _detector(
        "mask_rcnn",
        "gpvit_l1_adapter",
        GPVIT_PAPER,
        _Run("1x", 48.1, 42.7),
        _Run("3x", 50.2, 44.3),
        parameters=33,
        size_note=TRUNCATED,
    ),
    _detector(
        "mask_rcnn",
        "gpvit_l2_adapter",
        GPVIT_PAPER,
        _Run("1x", 49.9, 43.9),
        _Run("3x", 51.4, 45.1),
        parameters=50,
    ),
    _detector(
        "mask_rcnn",
        "gpvit_l3_adapter",
        GPVIT_PAPER,
        _Run("1x", 50.4, 44.4),
        _Run("3x", 51.6, 45.2),
        parameters=64,
        size_note=TRUNCATED,
    ),
    _detector(
        "mask_rcnn",
        "gpvit_l4_adapter",
        GPVIT_PAPER,
        _Run("1x", 51.0, 45.0),
        _Run("3x", 52.1, 45.7),
        drop_path_rate=0.2,
        parameters=109,
        size_note=TRUNCATED,
    ),
)

_CASCADES = (
    _detector("cascade_mask_rcnn", "pvt_v2_b2_li", PVT_V2_PAPER, _Run("3x", 50.9, 44.0)),
    _detector("cascade_mask_rcnn", "pvt_v2_b2", PVT_V2_PAPER, _Run("3x", 51.1, 44.4)),
)

_ATSSES = (
    _detector("atss", "pvt_v2_b2_li", PVT_V2_PAPER, _Run("3x", 48.9)),
    _detector("atss", "pvt_v2_b2", PVT_V2_PAPER, _Run("3x", 49.9)),
)

_GFLS = (
    _detector("gfl", "pvt_v2_b2_li", PVT_V2_PAPER, _Run("3x", 49.2)),
    _detector(
        "gfl",
        "pvt_v2_b2",
        PVT_V2_PAPER,
        _Run("3x", 50.2),
        parameters=33.11,
        macs=260.65,
        size_note=MORE_COUNTED,
    ),
)

_SPARSE_RCNNS = (
    _detector("sparse_rcnn", "pvt_v2_b2_li", PVT_V2_PAPER, _Run("3x", 48.9)),
    _detector("sparse_rcnn", "pvt_v2_b2", PVT_V2_PAPER, _Run("3x", 50.1)),
)

_DETRS = (
    _detector("detr", "pvt_small", PVT_PAGE, _Run("50e", 34.7)),
    _detector("detr", "resnet50", PVT_PAGE, _Run("50e", None), drop_path_rate=0.0),
)

DETECTORS = (
    *_RETINANETS,
    *_MASK_RCNNS,
    *_CASCADES,
    *_ATSSES,
    *_GFLS,
    *_SPARSE_RCNNS,
    *_DETRS,
)
