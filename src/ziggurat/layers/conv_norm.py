"""Convolution without bias, then a norm: the brick of convolutional networks."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.pointwise import ChannelFactors, PointwiseConv
from ziggurat.layers.strided_conv import StridedConv

NormBuilder = Callable[[int], nn.Module]
"""Builds the norm of a number of channels."""


class ConvNorm(nn.Module):
    """Convolution and norm, no activation; sides are divided by the stride and rounded up.

    The norm has a bias of its own, so the convolution has none. The pair is one module so that
    inference can fold a batch norm into the weights in front of it.

    Args:
        in_channels: Channels of the map that comes in.
        out_channels: Channels of the map that goes out.
        kernel_size: Odd side of the kernel in pixels.
        stride: Input pixels per output pixel.
        groups: Blocks of channels that do not mix; `in_channels` makes it depthwise.
        dilation: Distance between neighbouring taps of the kernel, in pixels.
        norm: Builds the norm of a number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        norm: NormBuilder = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.conv: nn.Conv2d
        if kernel_size == stride == groups == 1:
            self.conv = PointwiseConv(in_channels, out_channels, bias=False)
        elif kernel_size == stride == 1 and groups == in_channels == out_channels:
            self.conv = ChannelFactors(in_channels)
        else:
            kind = StridedConv if stride > 1 else nn.Conv2d
            self.conv = kind(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                padding=dilation * (kernel_size // 2),
                dilation=dilation,
                groups=groups,
                bias=False,
            )
        self.norm = norm(out_channels)

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out h w"]:
        """Return the normalised map."""
        y: Tensor = self.norm(self.conv(x))
        return y
