"""ResNets with torchvision's weights as dense prediction takes them: fixed norms, or dilated.

A detector sees too few images at once to gather statistics, so its norms stay as ImageNet left
them. A segmenter wants fine maps of far sight, so its last stages dilate where they would stride
(Chen et al., arXiv:1706.05587; "D8" is the stride that is left).
"""

from ziggurat.backbones.resnet import ResNet, resnet50, resnet101, resnet152


def resnet50_frozen(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build ResNet-50 with fixed norms; a stem and C2 that stay."""
    return resnet50(
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        norm="frozen",
        num_frozen_stages=2,
        sees_levels=False,
    )


def resnet101_frozen(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build ResNet-101 with fixed norms; a stem and C2 that stay."""
    return resnet101(
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        norm="frozen",
        num_frozen_stages=2,
        sees_levels=False,
    )


def resnet152_frozen(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build ResNet-152 with fixed norms; a stem and C2 that stay."""
    return resnet152(
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        norm="frozen",
        num_frozen_stages=2,
        sees_levels=False,
    )


def resnet50_d8(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build ResNet-50 whose last two stages dilate: maps of strides 4, 8, 8 and 8."""
    return resnet50(drop_path_rate=drop_path_rate, in_channels=in_channels, output_stride=8)


def resnet101_d8(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build ResNet-101 whose last two stages dilate: maps of strides 4, 8, 8 and 8."""
    return resnet101(drop_path_rate=drop_path_rate, in_channels=in_channels, output_stride=8)


def resnet50_caffe_dc5(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build `resnet50_caffe` whose last stage dilates: maps of strides 4, 8, 16 and 16."""
    return resnet50(
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        stride_in_1x1=True,
        norm="frozen",
        output_stride=16,
        num_frozen_stages=2,
        sees_levels=True,
    )


def resnet101_caffe_dc5(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build `resnet101_caffe` whose last stage dilates: maps of strides 4, 8, 16 and 16."""
    return resnet101(
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        stride_in_1x1=True,
        norm="frozen",
        output_stride=16,
        num_frozen_stages=2,
        sees_levels=True,
    )


SAME_WEIGHTS = {
    "resnet50_frozen": "resnet50",
    "resnet101_frozen": "resnet101",
    "resnet152_frozen": "resnet152",
    "resnet50_d8": "resnet50",
    "resnet101_d8": "resnet101",
    "resnet50_caffe_dc5": "resnet50_caffe",
    "resnet101_caffe_dc5": "resnet101_caffe",
}
"""The backbone whose published files each of them starts from."""
