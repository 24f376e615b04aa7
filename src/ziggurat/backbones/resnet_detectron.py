"""ResNets as Detectron trained them: group norms, or frozen ones around grouped convolutions.

Wu and He, arXiv:1803.08494; Xie et al., arXiv:1611.05431. Their 3x3 convolutions stride, unlike
those of the plain ResNets from Caffe (`resnet50_caffe`), and like those they see BGR levels.
"""

from ziggurat.backbones.resnet import ResNet, resnet50, resnet101, resnext101_32x8d


def resnet50_gn(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build ResNet-50 with 32 groups a norm; a stem and C2 that stay."""
    return resnet50(
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        norm="group",
        num_frozen_stages=2,
        sees_levels=True,
    )


def resnet101_gn(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build ResNet-101 with 32 groups a norm; a stem and C2 that stay."""
    return resnet101(
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        norm="group",
        num_frozen_stages=2,
        sees_levels=True,
    )


def resnext101_32x8d_caffe2(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build ResNeXt-101 32x8d with fixed norms; a stem and C2 that stay."""
    return resnext101_32x8d(
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        norm="frozen",
        num_frozen_stages=2,
        sees_levels=True,
    )
