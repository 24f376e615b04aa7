"""PANet's heads (Liu et al., arXiv:1803.01534), as the Feature Pyramid Transformer trains them.

Every number is that of the published configurations, which follow Detectron: every region is read
from all levels, all norms are group norms, anchors lie on the middles of cells.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from torch import nn

from ziggurat.heads.faster_rcnn import FasterRCNNHead
from ziggurat.heads.fused_mask import FusedMaskHead
from ziggurat.heads.mask_rcnn import MaskRCNNHead
from ziggurat.heads.roi_box import HIDDEN, BoxHead
from ziggurat.heads.roi_box import POOLED_SIDE as BOX_SIDE
from ziggurat.heads.roi_mask import POOLED_SIDE as MASK_SIDE
from ziggurat.heads.roi_samples import RegionSampler
from ziggurat.heads.rpn import ANCHORS, RPN, RPNSettings
from ziggurat.layers.adaptive_pooling import AdaptiveFeaturePooling
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.group_norm import group_norm
from ziggurat.layers.initialization import init_caffe2
from ziggurat.layers.linear_norm import LinearNorm
from ziggurat.systems.plan import Plan

BoxBranch = Literal["4conv1fc", "2fc"]
"""Four convolutions and a fully connected layer, or two of these; the first is of each level."""

RPN_SETTINGS = RPNSettings(
    num_proposals_trained=2000,
    is_inside_only=True,
    box_beta=1 / 9,
    anchors=replace(ANCHORS, is_rounded=True),
)
BOX_BETA = 1 / 3

norm = partial(group_norm, least=4)
"""32 groups down to 128 channels, which the mask branch has."""


def panet_boxes(strides: Sequence[int], plan: Plan, branch: BoxBranch) -> FasterRCNNHead:
    """Build both stages with fresh weights.

    Args:
        strides: Strides of the levels; the last one is for proposals only.
        plan: Classes and width.
        branch: Kind of the box branch.
    """
    channels, num_classes, cut = plan.channels, plan.num_classes, strides[:-1]
    if branch == "4conv1fc":
        pooling = _pooling(cut, BOX_SIDE, channels)
        box_head = BoxHead(
            channels, num_classes, num_convs=3, num_linears=1, norm=norm, beta=BOX_BETA
        )
    else:
        width = channels * BOX_SIDE**2
        layers = [LinearNorm(width, HIDDEN, norm) for _ in cut]
        # Its configuration does not name RoIAlign, so that the published code takes RoIPool.
        pooling = AdaptiveFeaturePooling(cut, BOX_SIDE, layers, method="max")
        box_head = BoxHead(
            HIDDEN, num_classes, num_linears=1, linear_norm=norm, num_cells=1, beta=BOX_BETA
        )
    for part in (pooling, box_head.convs, box_head.linears):
        init_caffe2(part)
    rpn = RPN(channels, strides, RPN_SETTINGS)
    return FasterRCNNHead(rpn, box_head, pooling, RegionSampler(is_forced=False))


def panet_masks(boxes: FasterRCNNHead, strides: Sequence[int], plan: Plan) -> MaskRCNNHead:
    """Put a mask branch with fresh weights beside the boxes.

    Args:
        boxes: Both stages.
        strides: Strides of the levels; the last one is for proposals only.
        plan: Classes and width.
    """
    pooling = _pooling(strides[:-1], MASK_SIDE, plan.channels)
    init_caffe2(pooling)
    return MaskRCNNHead(boxes, FusedMaskHead(plan.channels, plan.num_classes, norm), pooling)


def _pooling(strides: Sequence[int], side: int, channels: int) -> AdaptiveFeaturePooling:
    layers: list[nn.Module] = [ConvNorm(channels, channels, 3, norm=norm) for _ in strides]
    return AdaptiveFeaturePooling(strides, side, layers)
