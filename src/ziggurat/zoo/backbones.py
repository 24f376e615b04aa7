"""Backbones by name, and classifiers' parts: a backbone, how it is pooled, a linear head."""

from collections.abc import Callable
from functools import cache, partial
from typing import Protocol

import torch
from torch import nn

from ziggurat.backbones import (
    gpvit,
    gpvit_adapter,
    p2t,
    pvt,
    pvt_v2,
    resnet,
    resnet_dense,
    resnet_detectron,
    topformer,
)
from ziggurat.backbones.timm_backbone import TimmBackbone
from ziggurat.errors import ZigguratError, check_known
from ziggurat.heads.linear import (
    AveragePool,
    ClassTokenPool,
    GroupTokenPool,
    LinearHead,
    NormalizedAveragePool,
)
from ziggurat.models.classifier import Trunk
from ziggurat.preprocessing import CAFFE_PIXELS, IMAGENET_PIXELS, Pixels

Backbone = Trunk | gpvit_adapter.GPViTAdapter | resnet.ResNet | TimmBackbone


class BackboneBuilder(Protocol):
    """Builds a variant of a family."""

    def __call__(self, *, drop_path_rate: float = 0.0, in_channels: int = 3) -> Backbone:
        """Build it with fresh weights."""


class TrunkBuilder(Protocol):
    """Builds a variant as its family classifies with it."""

    def __call__(self, *, drop_path_rate: float = 0.0, in_channels: int = 3) -> Trunk:
        """Build it with fresh weights."""


PVTS = (pvt.pvt_tiny, pvt.pvt_small, pvt.pvt_medium, pvt.pvt_large, pvt.pvt_huge_v2)
PVT_V2S = (
    pvt_v2.pvt_v2_b0,
    pvt_v2.pvt_v2_b1,
    pvt_v2.pvt_v2_b2,
    pvt_v2.pvt_v2_b2_li,
    pvt_v2.pvt_v2_b3,
    pvt_v2.pvt_v2_b4,
    pvt_v2.pvt_v2_b5,
)
P2TS = (p2t.p2t_tiny, p2t.p2t_small, p2t.p2t_medium, p2t.p2t_base, p2t.p2t_large)
TOPFORMERS = (topformer.topformer_tiny, topformer.topformer_small, topformer.topformer_base)
GPVITS = (gpvit.gpvit_l1, gpvit.gpvit_l2, gpvit.gpvit_l3, gpvit.gpvit_l4)
GPVIT_ADAPTERS = (
    gpvit_adapter.gpvit_l1_adapter,
    gpvit_adapter.gpvit_l2_adapter,
    gpvit_adapter.gpvit_l3_adapter,
    gpvit_adapter.gpvit_l4_adapter,
)
RESNETS = (
    resnet.resnet50,
    resnet.resnet101,
    resnet.resnet152,
    resnet.resnext101_32x8d,
    resnet.resnet50_caffe,
    resnet.resnet101_caffe,
    resnet.resnet152_caffe,
    resnet_detectron.resnet50_gn,
    resnet_detectron.resnet101_gn,
    resnet_detectron.resnext101_32x8d_caffe2,
    resnet_dense.resnet50_frozen,
    resnet_dense.resnet101_frozen,
    resnet_dense.resnet152_frozen,
    resnet_dense.resnet50_d8,
    resnet_dense.resnet101_d8,
    resnet_dense.resnet50_caffe_dc5,
    resnet_dense.resnet101_caffe_dc5,
)

BACKBONES: dict[str, BackboneBuilder] = {
    build.__name__: build
    for build in (*PVTS, *PVT_V2S, *P2TS, *TOPFORMERS, *GPVITS, *GPVIT_ADAPTERS, *RESNETS)
}
"""Images to a pyramid of maps, for dense prediction."""

TRUNKS: dict[str, TrunkBuilder] = {
    **{build.__name__: partial(build, use_class_token=True) for build in PVTS},
    **{build.__name__: build for build in (*PVT_V2S, *P2TS)},
    **{build.__name__: partial(build, injection_channels=None) for build in TOPFORMERS},
    **{build.__name__: partial(build, out_indices=(11,)) for build in GPVITS},
}
"""Images to what the head of a classifier reads."""

POOLS: dict[str, Callable[[int], nn.Module]] = {
    **{build.__name__: lambda _: ClassTokenPool() for build in PVTS},
    **{build.__name__: NormalizedAveragePool for build in TOPFORMERS},
    **{build.__name__: partial(GroupTokenPool, num_heads=6) for build in GPVITS[:2]},
}
"""How a classifier makes one vector of an image, where it is not the mean over the map."""

TIMM_PREFIX = "timm:"
"""In front of the name of any network of timm, which is a backbone then."""

SINGLE_STAGE_ADAPTERS = {
    build.__name__: partial(build, is_single_stage=True) for build in GPVIT_ADAPTERS
}
"""GPViT's adapters without the map of stride 4, which dense heads do not read."""


def pixels_of(backbone: str) -> Pixels:
    """Return the numbers that the published weights of a backbone want images in.

    Only ResNets have weights of more than one kind, and each says itself which it is for.

    Args:
        backbone: Name of the backbone.
    """
    is_resnet = any(backbone == build.__name__ for build in RESNETS)
    return CAFFE_PIXELS if is_resnet and _sees_levels(backbone) else IMAGENET_PIXELS


@cache
def _sees_levels(name: str) -> bool:
    """Say whether the weights of a ResNet want BGR levels from 0 to 255."""
    with torch.device("meta"):  # where it costs no memory and draws no random number
        backbone = BACKBONES[name]()
    return isinstance(backbone, resnet.ResNet) and backbone.sees_levels is True


def weights_of(backbone: str) -> str:
    """Return the name under which the files of a backbone's weights are published.

    Args:
        backbone: Name of a backbone or a model; all but a few have files of their own.
    """
    return resnet_dense.SAME_WEIGHTS.get(backbone, backbone)


def create_backbone(name: str, *, drop_path_rate: float = 0.0, in_channels: int = 3) -> Backbone:
    """Build a backbone: images (B, 3, H, W) to a list of maps (B, C_i, H_i, W_i).

    Args:
        name: Name of the backbone, for example "p2t_small", or of any network of timm:
            "timm:convnext_tiny".
        drop_path_rate: Stochastic depth of its last block; it grows linearly from 0.
        in_channels: Channels of the images.

    An unknown name, or a number out of range, is a `ZigguratError`.
    """
    _check_numbers(drop_path_rate, in_channels)
    if name.startswith(TIMM_PREFIX):
        return TimmBackbone(
            name.removeprefix(TIMM_PREFIX), drop_path_rate=drop_path_rate, in_channels=in_channels
        )
    check_known("backbone", name, BACKBONES)
    return BACKBONES[name](drop_path_rate=drop_path_rate, in_channels=in_channels)


def create_classifier_parts(
    name: str, num_classes: int, *, drop_path_rate: float = 0.0, in_channels: int = 3
) -> tuple[Trunk, LinearHead]:
    """Build a backbone as its family classifies with it, and the head that goes with it.

    Args:
        name: Name of the backbone.
        num_classes: Number of classes.
        drop_path_rate: Stochastic depth of its last block; it grows linearly from 0.
        in_channels: Channels of the images.

    An unknown name, or a number out of range, is a `ZigguratError`.
    """
    check_known("classification backbone", name, TRUNKS)
    _check_numbers(drop_path_rate, in_channels)
    trunk = TRUNKS[name](drop_path_rate=drop_path_rate, in_channels=in_channels)
    return trunk, create_linear_head(name, trunk.num_features, num_classes)


def create_linear_head(name: str, in_channels: int, num_classes: int) -> LinearHead:
    """Build the head of a classifier.

    Args:
        name: Name of the backbone.
        in_channels: Length of the vector that the backbone's features make.
        num_classes: Number of classes.
    """
    pool = POOLS[name](in_channels) if name in POOLS else AveragePool()
    return LinearHead(pool, in_channels, num_classes)


def _check_numbers(drop_path_rate: float, in_channels: int) -> None:
    if not 0 <= drop_path_rate < 1:
        raise ZigguratError(f"drop_path_rate must be in [0, 1), got {drop_path_rate}")
    if in_channels < 1:
        raise ZigguratError(f"in_channels must be at least 1, got {in_channels}")
