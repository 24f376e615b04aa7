"""Rendering transformers of the Feature Pyramid Transformer (arXiv:2007.09451, section 3.4).

Bottom-up: a fine map renders its visual details into a coarse one, channel by channel. Its mean
says which channels of the coarse map count, and the fine map itself is added, scaled down.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.conv_norm import ConvNorm, NormBuilder
from ziggurat.layers.resize import resize_like
from ziggurat.layers.strided_conv import StridedConv


class RenderingTransformer(nn.Module):
    """The published code's: norms behind every convolution, ReLU at the end.

    With s fine pixels per coarse one,

        gate = relu(norm(conv1x1(mean(fine))))
        out  = relu(norm(conv3x3_stride_s(fine)) + norm(conv3x3(coarse)) * gate)

    Args:
        channels: Channels of both maps.
        ratio: Fine pixels per coarse pixel along a side.
        norm: Builds the norms.
    """

    def __init__(self, channels: int, ratio: int, norm: NormBuilder) -> None:
        super().__init__()
        self.gate = ConvNorm(channels, channels, 1, norm=norm)
        self.coarse = ConvNorm(channels, channels, 3, norm=norm)
        self.fine = ConvNorm(channels, channels, 3, stride=ratio, norm=norm)

    def forward(
        self, coarse: Float[Tensor, "B C h w"], fine: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C h w"]:
        """Return the coarse map with the details of the fine one."""
        gate = F.relu(self.gate(fine.mean(dim=(2, 3), keepdim=True)))
        return F.relu(resize_like(self.fine(fine), coarse) + self.coarse(coarse) * gate)


class PlainRendering(nn.Module):
    """The paper's: the gate is the mean itself, and a convolution follows the sum.

    With s fine pixels per coarse one,

        out = conv3x3(conv3x3(coarse * mean(fine)) + conv3x3_stride_s(fine))

    Args:
        channels: Channels of both maps.
        ratio: Fine pixels per coarse pixel along a side.
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(channels, channels, 3, padding=1)
        self.fine = StridedConv(channels, channels, 3, stride=ratio, padding=1)
        self.refine = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(
        self, coarse: Float[Tensor, "B C h w"], fine: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C h w"]:
        """Return the coarse map with the details of the fine one."""
        gated = self.coarse(coarse * fine.mean(dim=(2, 3), keepdim=True))
        rendered: Tensor = self.refine(gated + resize_like(self.fine(fine), coarse))
        return rendered
