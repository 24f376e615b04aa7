"""Detection systems: the neck and the head that go onto a backbone, every number written out.

A system is a function, the zoo finds it by its name. The published detectors were trained with
three editions of MMDetection, whose rules differ in a few places; a system says where.
"""

from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from ziggurat.errors import ZigguratError
from ziggurat.heads.atss import ATSS_SELECTION, ATSSHead
from ziggurat.heads.cascade_mask_rcnn import STAGES, CascadeMaskRCNNHead
from ziggurat.heads.dense import Selection
from ziggurat.heads.detr import DETRHead
from ziggurat.heads.faster_rcnn import FasterRCNNHead
from ziggurat.heads.gfl import GFL_SELECTION, GFLHead
from ziggurat.heads.keypoint_rcnn import KeypointRCNNHead
from ziggurat.heads.mask_rcnn import MaskRCNNHead
from ziggurat.heads.retinanet import RETINANET_SELECTION, RetinaNetHead
from ziggurat.heads.roi_box import POOLED_SIDE as BOX_SIDE
from ziggurat.heads.roi_box import BoxHead
from ziggurat.heads.roi_keypoint import POOLED_SIDE as KEYPOINT_SIDE
from ziggurat.heads.roi_keypoint import KeypointHead
from ziggurat.heads.roi_mask import POOLED_SIDE as MASK_SIDE
from ziggurat.heads.roi_mask import MaskHead
from ziggurat.heads.rpn import RPN, RPNSettings
from ziggurat.heads.sparse_rcnn import SparseRCNNHead
from ziggurat.layers.roi_pooling import RoIPooling
from ziggurat.models.detector import Head
from ziggurat.necks.coarsest import Coarsest
from ziggurat.systems.necks import Neck, build_neck
from ziggurat.systems.panet import panet_boxes, panet_masks
from ziggurat.systems.plan import Plan
from ziggurat.systems.pyramid import Pyramid
from ziggurat.types import Task


@dataclass(frozen=True)
class DetectionParts:
    """What a system puts onto a pyramid of maps."""

    neck: nn.Module
    head: Head


@runtime_checkable
class DetectionBuilder(Protocol):
    """Builds neck and head of a system."""

    def __call__(self, pyramid: Pyramid, plan: Plan) -> DetectionParts:
        """Build them with fresh weights.

        Args:
            pyramid: Gives the maps.
            plan: What is left open.
        """


@dataclass(frozen=True)
class DetectionSystem:
    """A system and what it asks for.

    Attributes:
        build: Builds neck and head.
        task: What it does.
        strides: Strides of the maps that it reads.
        has_depth: Whether its head has towers whose depth can be chosen.
        neck: Name of its neck, or None where the head reads the backbone's last map.
    """

    build: DetectionBuilder
    task: Task
    strides: tuple[int, ...] = (4, 8, 16, 32)
    has_depth: bool = False
    neck: str | None = "fpn"


ExtraFrom = Literal["input", "output"]
"""Whether P6 is made of C5 or of P5."""

DENSE_STRIDES = (8, 16, 32)
"""Dense heads start from C3; C4 and C5 follow, and two extra levels."""


def retinanet(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """RetinaNet (Lin et al., arXiv:1708.02002): levels P3..P7, the focal loss.

    GPViT's have batch norm in the pyramid and make P6 of P5, the others of C5.
    """
    extra_from: ExtraFrom = "output" if plan.edition == "2.25" else "input"
    return _dense(pyramid, plan, RetinaNetHead, RETINANET_SELECTION, extra_from=extra_from)


def atss(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """ATSS (Zhang et al., arXiv:1912.02424), as published with PVT v2: P6 and P7 of P5."""
    return _dense(pyramid, plan, ATSSHead, ATSS_SELECTION, extra_from="output")


def gfl(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """GFL (Li et al., arXiv:2006.04388), as published with PVT v2: P6 and P7 of P5."""
    return _dense(pyramid, plan, GFLHead, GFL_SELECTION, extra_from="output")


def _dense(
    pyramid: Pyramid,
    plan: Plan,
    build_head: type[RetinaNetHead | ATSSHead | GFLHead],
    published: Selection,
    *,
    extra_from: ExtraFrom,
) -> DetectionParts:
    """Put a dense head on levels P3..P7."""
    levels = build_neck(
        pyramid,
        plan,
        start_level=list(pyramid.out_strides).index(8),
        num_extra_levels=2,
        extra_from=extra_from,
        has_norm=plan.edition == "2.25",
    )
    head = build_head(
        plan.channels,
        levels.out_strides,
        plan.num_classes,
        depth=plan.depth,
        selection=replace(published, rule="pairs" if plan.edition == "2.25" else "anchors"),
    )
    return DetectionParts(levels, head)


def faster_rcnn(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """Faster R-CNN (Ren et al., arXiv:1506.01497): levels P2..P6, the last for proposals only.

    GPViT's box branch has four convolutions with batch norm and one fully connected layer, the
    others' two fully connected layers.
    """
    levels, strides = _region_pyramid(pyramid, plan)
    return DetectionParts(levels, _faster_rcnn_head(strides, plan))


def mask_rcnn(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """Mask R-CNN (He et al., arXiv:1703.06870): Faster R-CNN and a mask branch."""
    levels, strides = _region_pyramid(pyramid, plan)
    boxes = _faster_rcnn_head(strides, plan)
    pooling = RoIPooling(strides[:-1], MASK_SIDE)
    head = MaskRCNNHead(boxes, MaskHead(plan.channels, plan.num_classes), pooling)
    return DetectionParts(levels, head)


def faster_rcnn_panet(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """Faster R-CNN whose boxes read every level, as in PANet (Liu et al., arXiv:1803.01534).

    As published with the Feature Pyramid Transformer: four convolutions, one fully connected layer.
    """
    levels, strides = _region_pyramid(pyramid, plan)
    return DetectionParts(levels, panet_boxes(strides, plan, "4conv1fc"))


def faster_rcnn_panet_2fc(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """`faster_rcnn_panet` with two fully connected layers, which read cells by RoIPool."""
    levels, strides = _region_pyramid(pyramid, plan)
    return DetectionParts(levels, panet_boxes(strides, plan, "2fc"))


def mask_rcnn_panet(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """`faster_rcnn_panet` and PANet's mask branch, a fully connected one beside convolutions."""
    levels, strides = _region_pyramid(pyramid, plan)
    boxes = panet_boxes(strides, plan, "4conv1fc")
    return DetectionParts(levels, panet_masks(boxes, strides, plan))


def keypoint_rcnn(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """Keypoint R-CNN (He et al., arXiv:1703.06870, section 5): Faster R-CNN and a keypoint branch.

    It is trained on 2000 proposals of an image, as published by its authors.
    """
    assert plan.num_keypoints is not None  # the zoo sees to it
    levels, strides = _region_pyramid(pyramid, plan)
    boxes = _faster_rcnn_head(strides, plan, num_proposals=2000)
    branch = KeypointHead(plan.channels, plan.num_keypoints)
    pooling = RoIPooling(strides[:-1], KEYPOINT_SIDE)
    return DetectionParts(levels, KeypointRCNNHead(boxes, branch, pooling))


def cascade_mask_rcnn(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """Cascade Mask R-CNN (Cai and Vasconcelos, arXiv:1906.09756), as published with PVT v2."""
    levels, strides = _region_pyramid(pyramid, plan)
    settings = RPNSettings(num_proposals_trained=2000, is_inside_only=True, box_beta=1 / 9)
    head = CascadeMaskRCNNHead(
        RPN(plan.channels, strides, settings),
        [
            BoxHead(plan.channels, plan.num_classes, num_convs=4, num_linears=1, stds=stage.stds)
            for stage in STAGES
        ],
        [MaskHead(plan.channels, plan.num_classes) for _ in STAGES],
        strides[:-1],
    )
    return DetectionParts(levels, head)


def _region_pyramid(pyramid: Pyramid, plan: Plan) -> tuple[Neck, tuple[int, ...]]:
    """Levels P2..P6 and their strides; regions are cut from all but the last."""
    levels = build_neck(
        pyramid,
        plan,
        start_level=0,
        num_extra_levels=1,
        extra_from="subsample",
        has_norm=plan.edition == "2.25",
    )
    return levels, levels.out_strides


def _faster_rcnn_head(
    strides: tuple[int, ...], plan: Plan, *, num_proposals: int = 1000
) -> FasterRCNNHead:
    convs, linears = (4, 1) if plan.edition == "2.25" else (0, 2)
    box_head = BoxHead(plan.channels, plan.num_classes, num_convs=convs, num_linears=linears)
    settings = RPNSettings(num_proposals_trained=num_proposals, drops_empty=plan.edition != "2.14")
    rpn = RPN(plan.channels, strides, settings)
    return FasterRCNNHead(rpn, box_head, RoIPooling(strides[:-1], BOX_SIDE))


def sparse_rcnn(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """Sparse R-CNN (Sun et al., arXiv:2011.12450): 300 learned proposals on levels P2..P5."""
    _check_heads(plan.channels)
    levels = build_neck(pyramid, plan)
    head = SparseRCNNHead(plan.channels, levels.out_strides, plan.num_classes)
    return DetectionParts(levels, head)


def detr(pyramid: Pyramid, plan: Plan) -> DetectionParts:
    """DETR (Carion et al., arXiv:2005.12872): 100 queries to the backbone's last map."""
    _check_heads(plan.channels)
    last = Coarsest(pyramid.out_channels, pyramid.out_strides)
    head = DETRHead(
        last.out_channels[0], last.out_strides[0], plan.num_classes, channels=plan.channels
    )
    return DetectionParts(last, head)


def _check_heads(channels: int) -> None:
    if channels % 8:
        raise ZigguratError(
            f"head_channels must be a multiple of 8, one part for each attention head, "
            f"got {channels}"
        )


DETECTION_SYSTEMS: dict[str, DetectionSystem] = {
    "faster_rcnn": DetectionSystem(faster_rcnn, "detection"),
    "mask_rcnn": DetectionSystem(mask_rcnn, "instance_segmentation"),
    "faster_rcnn_panet": DetectionSystem(faster_rcnn_panet, "detection"),
    "faster_rcnn_panet_2fc": DetectionSystem(faster_rcnn_panet_2fc, "detection"),
    "mask_rcnn_panet": DetectionSystem(mask_rcnn_panet, "instance_segmentation"),
    "keypoint_rcnn": DetectionSystem(keypoint_rcnn, "keypoint_detection"),
    "cascade_mask_rcnn": DetectionSystem(cascade_mask_rcnn, "instance_segmentation"),
    "atss": DetectionSystem(atss, "detection", DENSE_STRIDES, has_depth=True),
    "gfl": DetectionSystem(gfl, "detection", DENSE_STRIDES, has_depth=True),
    "retinanet": DetectionSystem(retinanet, "detection", DENSE_STRIDES, has_depth=True),
    "sparse_rcnn": DetectionSystem(sparse_rcnn, "detection"),
    "detr": DetectionSystem(detr, "detection", neck=None),
}
