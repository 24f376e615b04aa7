"""Overlapping patch embedding, the downsampling of PVT v2 and P2T."""

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.map_norm import MapNorm
from ziggurat.layers.strided_conv import StridedConv


class OverlapPatchEmbed(nn.Module):
    """Convolution wider than its stride, then a LayerNorm over the channels.

    PVT v2 (Wang et al., arXiv:2106.13797, section 3.1): neighbouring patches share pixels, so the
    map stays continuous where PVT v1 cut it into squares. Sizes round up.

    Args:
        in_channels: Channels of the map that comes in.
        out_channels: Channels of the embedding.
        stride: 4 with a 7x7 kernel (first stage) or 2 with a 3x3 kernel.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        kernel = 2 * stride - 1
        self.proj = StridedConv(in_channels, out_channels, kernel, stride, padding=kernel // 2)
        self.norm = MapNorm(out_channels)

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out h w"]:
        """Return the embedded map, its sides divided by the stride and rounded up."""
        y: Tensor = self.norm(self.proj(x))
        return y
