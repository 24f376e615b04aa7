"""The mask branch of PANet (Liu et al., arXiv:1803.01534, section 3.3): two views, added.

A convolution sees a neighbourhood wherever it is; a fully connected layer sees the whole region and
knows where in it a pixel lies. The first draws a mask for each class, the second tells object from
background, whatever the class, and their logits are added.

Shapes: M regions of a batch, K classes.
"""

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.heads.roi_mask import MASK_SIDE, POOLED_SIDE
from ziggurat.layers.conv_norm import ConvNorm, NormBuilder
from ziggurat.layers.initialization import init_caffe2

NUM_SHARED = 2
"""Convolutions in front of both branches; one more, of each level, is in the pooling."""


class FusedMaskHead(nn.Module):
    """Two convolutions, then a branch of convolutions and a fully connected one.

    Args:
        in_channels: Channels of the levels.
        num_classes: Number of classes K.
        norm: Builds the norm behind each convolution.
    """

    def __init__(self, in_channels: int, num_classes: int, norm: NormBuilder) -> None:
        super().__init__()
        half = max(1, in_channels // 2)
        self.shared = nn.ModuleList(
            ConvNorm(in_channels, in_channels, 3, norm=norm) for _ in range(NUM_SHARED)
        )
        self.conv = ConvNorm(in_channels, in_channels, 3, norm=norm)
        self.upsample = nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2)
        self.logits = nn.Conv2d(in_channels, num_classes, 1)
        self.whole_convs = nn.ModuleList(
            [
                ConvNorm(in_channels, in_channels, 3, norm=norm),
                ConvNorm(in_channels, half, 3, norm=norm),
            ]
        )
        self.whole = nn.Linear(half * POOLED_SIDE**2, MASK_SIDE**2)
        init_caffe2(self)

    def forward(self, regions: Float[Tensor, "M C 14 14"]) -> Float[Tensor, "M K 28 28"]:
        """Return mask logits of every class."""
        x = regions
        for conv in self.shared:
            x = conv(x).relu()
        drawn: Tensor = self.logits(self.upsample(self.conv(x).relu()).relu())
        for conv in self.whole_convs:
            x = conv(x).relu()
        # The published code adds nothing below zero: this branch finds objects, not background.
        whole = self.whole(x.flatten(1)).relu()
        return drawn + whole.view(-1, 1, MASK_SIDE, MASK_SIDE)
