"""ResNet (He et al., CVPR 2016, arXiv:1512.03385) and ResNeXt (Xie et al., arXiv:1611.05431).

A residual block adds what it computes to its input, so that a network of a hundred layers learns
no worse than one of ten. The variants of two decades of detectors differ in four details, which
are arguments here: where a block strides, which norm it has and whether that learns, how far the
stages downsample before they dilate, and how many of them stay as they were pretrained.

Shapes: B images, C channels, H x W map. Maps are (B, C, H, W) in channels_last memory.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.errors import ZigguratError
from ziggurat.layers.checkpointing import run_block, set_checkpointing
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.initialization import init_convolutions

Norm = Literal["batch", "frozen", "group"]
"""Batch norm; batch norm that is a fixed scale and shift; group norm of 32 groups."""

EXPANSION = 4
"""Channels of a block's output for each channel inside."""


class Bottleneck(nn.Module):
    """1x1 convolution to few channels, 3x3 there, 1x1 back; added to the input.

    Args:
        in_channels: Channels of the map that comes in.
        width: Channels of the 3x3 convolution.
        out_channels: Channels of the map that goes out.
        stride: Stride of the block.
        stride_in_1x1: Whether the first 1x1 convolution strides, as in the paper and in weights
            from Caffe, and not the 3x3, which loses no pixel (torchvision's weights).
        groups: Blocks of channels of the 3x3 convolution; 1 in ResNet.
        dilation: Distance between the taps of the 3x3 convolution, in pixels.
        norm: Builds the norm of a number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        *,
        stride: int,
        stride_in_1x1: bool,
        groups: int,
        dilation: int,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = ConvNorm(in_channels, width, 1, stride=first, norm=norm)
        self.conv2 = ConvNorm(
            width, width, 3, stride=second, groups=groups, dilation=dilation, norm=norm
        )
        self.conv3 = ConvNorm(width, out_channels, 1, norm=norm)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = ConvNorm(in_channels, out_channels, 1, stride=stride, norm=norm)

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out h w"]:
        """Return the map, its sides divided by the stride and rounded up."""
        # In place: a new map would cost as much time as its pages take to be handed out.
        y = self.conv1(x).relu_()
        y = self.conv2(y).relu_()
        y = self.conv3(y)
        y += self.shortcut(x)
        return y.relu_()


class FrozenBatchNorm(nn.Module):
    """Batch norm that neither gathers statistics nor learns: a fixed scale and shift.

    Detectors see too few images at once to gather statistics. Files of Caffe2 hold scale and
    shift only, into which the statistics are folded; with the initial mean 0 and variance
    1 - eps they mean the same here.

    Args:
        channels: Channels of the map.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Buffer(torch.ones(channels))
        self.bias = nn.Buffer(torch.zeros(channels))
        self.running_mean = nn.Buffer(torch.zeros(channels))
        self.running_var = nn.Buffer(torch.full((channels,), 1 - eps))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the scaled and shifted map."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class Stage(nn.Module):
    """Blocks at one size of the map; the first of them strides.

    Args:
        blocks: The blocks.
    """

    def __init__(self, blocks: Sequence[Bottleneck]) -> None:
        super().__init__()
        self.use_checkpointing = False
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out h w"]:
        """Return the map of the stage."""
        for block in self.blocks:
            x = run_block(block, x, use_checkpointing=self.use_checkpointing)
        return x


class ResNet(nn.Module):
    """A stem of stride 4 and four stages, whose outputs are the maps C2..C5.

    Args:
        depths: Number of blocks of each stage.
        groups: Blocks of channels of the 3x3 convolutions; 1 in ResNet, more in ResNeXt.
        width_per_group: Channels of a group in the first stage; doubled from stage to stage.
        stride_in_1x1: Whether blocks stride in their first 1x1 convolution, not in the 3x3.
        norm: Kind of the norms.
        output_stride: Stride of C5; stages that would go beyond it dilate instead.
        num_frozen_stages: Parts that do not learn, from the input on: 1 is the stem, 2 the stem
            and the stage of C2, as in detectors.
        drop_path_rate: Must be 0: ResNets are trained without stochastic depth.
        in_channels: Channels of the images.
        sees_levels: Whether its weights want BGR levels from 0 to 255 (Caffe) or, if False,
            normalised RGB (torchvision, timm). By default False where batch norms learn and the
            3x3 strides, as in torchvision and timm alone, else None: weights may be of either.

    An option out of its range is a `ZigguratError`.
    """

    def __init__(
        self,
        depths: Sequence[int],
        groups: int,
        width_per_group: int,
        *,
        stride_in_1x1: bool,
        norm: Norm,
        output_stride: int,
        num_frozen_stages: int,
        drop_path_rate: float,
        in_channels: int,
        sees_levels: bool | None = None,
    ) -> None:
        super().__init__()
        check_options(norm, output_stride, num_frozen_stages, drop_path_rate)
        make_norm = NORMS[norm]
        self.stem = ConvNorm(in_channels, 64, 7, stride=2, norm=make_norm)
        self.stages = nn.ModuleList()
        channels, strides = [64], [4]
        for i, depth in enumerate(depths):
            wanted = 4 * 2**i
            stride = min(wanted, output_stride) // strides[-1]
            channels.append(64 * 2**i * EXPANSION)
            strides.append(strides[-1] * stride)
            self.stages.append(
                Stage(
                    [
                        Bottleneck(
                            channels[-1] if block else channels[-2],
                            groups * width_per_group * 2**i,
                            channels[-1],
                            stride=1 if block else stride,
                            stride_in_1x1=stride_in_1x1,
                            groups=groups,
                            dilation=wanted // strides[-1],
                            norm=make_norm,
                        )
                        for block in range(depth)
                    ]
                )
            )
        self.out_channels = tuple(channels[1:])
        self.out_strides = tuple(strides[1:])
        if sees_levels is None and norm == "batch" and not stride_in_1x1:
            sees_levels = False
        self.sees_levels = sees_levels
        init_convolutions(self)
        self._frozen = [self.stem, *self.stages][:num_frozen_stages]
        for part in self._frozen:
            part.requires_grad_(False)

    def forward(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the maps C2..C5; a side that its stride does not divide is rounded up."""
        x = images.contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(self.stem(x).relu_(), 3, stride=2, padding=1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def train(self, mode: bool = True) -> "ResNet":
        """Train or evaluate; frozen stages never gather statistics."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping what is in them."""
        set_checkpointing(self, enable)


def check_options(
    norm: str, output_stride: int, num_frozen_stages: int, drop_path_rate: float
) -> None:
    """Raise unless a ResNet can be built with these options.

    Args:
        norm: Kind of the norms.
        output_stride: Stride of C5.
        num_frozen_stages: Parts that do not learn.
        drop_path_rate: Stochastic depth.

    Raises:
        ZigguratError: If one of them is out of its range.
    """
    if drop_path_rate != 0:
        raise ZigguratError(
            f"a ResNet has no stochastic depth, got drop_path_rate={drop_path_rate}; leave it at 0"
        )
    if norm not in get_args(Norm):
        raise ZigguratError(f"norm must be one of {', '.join(get_args(Norm))}, got {norm!r}")
    if output_stride not in (8, 16, 32):
        raise ZigguratError(f"output_stride must be 8, 16 or 32, got {output_stride}")
    if not 0 <= num_frozen_stages <= 5:
        raise ZigguratError(
            f"num_frozen_stages must be from 0 (none) to 5 (all), got {num_frozen_stages}"
        )


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)


NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "frozen": FrozenBatchNorm,
    "group": _group_norm,
}


def resnet50(
    *,
    drop_path_rate: float = 0.0,
    in_channels: int = 3,
    stride_in_1x1: bool = False,
    norm: Norm = "batch",
    output_stride: int = 32,
    num_frozen_stages: int = 0,
    sees_levels: bool | None = None,
) -> ResNet:
    """Build ResNet-50: 23.5 M parameters without its classifier."""
    return ResNet(
        depths=(3, 4, 6, 3),
        groups=1,
        width_per_group=64,
        stride_in_1x1=stride_in_1x1,
        norm=norm,
        output_stride=output_stride,
        num_frozen_stages=num_frozen_stages,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        sees_levels=sees_levels,
    )


def resnet101(
    *,
    drop_path_rate: float = 0.0,
    in_channels: int = 3,
    stride_in_1x1: bool = False,
    norm: Norm = "batch",
    output_stride: int = 32,
    num_frozen_stages: int = 0,
    sees_levels: bool | None = None,
) -> ResNet:
    """Build ResNet-101: 42.5 M parameters without its classifier."""
    return ResNet(
        depths=(3, 4, 23, 3),
        groups=1,
        width_per_group=64,
        stride_in_1x1=stride_in_1x1,
        norm=norm,
        output_stride=output_stride,
        num_frozen_stages=num_frozen_stages,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        sees_levels=sees_levels,
    )


def resnet152(
    *,
    drop_path_rate: float = 0.0,
    in_channels: int = 3,
    stride_in_1x1: bool = False,
    norm: Norm = "batch",
    output_stride: int = 32,
    num_frozen_stages: int = 0,
    sees_levels: bool | None = None,
) -> ResNet:
    """Build ResNet-152: 58.1 M parameters without its classifier."""
    return ResNet(
        depths=(3, 8, 36, 3),
        groups=1,
        width_per_group=64,
        stride_in_1x1=stride_in_1x1,
        norm=norm,
        output_stride=output_stride,
        num_frozen_stages=num_frozen_stages,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        sees_levels=sees_levels,
    )


def resnext101_32x8d(
    *,
    drop_path_rate: float = 0.0,
    in_channels: int = 3,
    stride_in_1x1: bool = False,
    norm: Norm = "batch",
    output_stride: int = 32,
    num_frozen_stages: int = 0,
    sees_levels: bool | None = None,
) -> ResNet:
    """Build ResNeXt-101 32x8d: 86.7 M parameters without its classifier."""
    return ResNet(
        depths=(3, 4, 23, 3),
        groups=32,
        width_per_group=8,
        stride_in_1x1=stride_in_1x1,
        norm=norm,
        output_stride=output_stride,
        num_frozen_stages=num_frozen_stages,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        sees_levels=sees_levels,
    )


def resnet50_caffe(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build ResNet-50 as detectors take it from Caffe: fixed norms, a stem and C2 that stay."""
    return resnet50(
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        stride_in_1x1=True,
        norm="frozen",
        num_frozen_stages=2,
        sees_levels=True,
    )


def resnet101_caffe(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build ResNet-101 as detectors take it from Caffe: fixed norms, a stem and C2 that stay."""
    return resnet101(
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        stride_in_1x1=True,
        norm="frozen",
        num_frozen_stages=2,
        sees_levels=True,
    )


def resnet152_caffe(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    """Build ResNet-152 as detectors take it from Caffe: fixed norms, a stem and C2 that stay."""
    return resnet152(
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        stride_in_1x1=True,
        norm="frozen",
        num_frozen_stages=2,
        sees_levels=True,
    )
