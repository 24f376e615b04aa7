"""1x1 convolutions as the products that they are on a channels_last map."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.tokens import to_map, to_tokens


class PointwiseConv(nn.Conv2d):
    """1x1 convolution whose weights keep the shape (out, in, 1, 1) of the published files.

    The product is faster than the convolution in training on the CPU. On NVIDIA's GPUs it rounds
    less and can be slower: PyTorch lets convolutions of float32 take TF32, products only if asked.

    Args:
        in_channels: Channels of the map that comes in.
        out_channels: Channels of the map that goes out.
        bias: Whether a bias is added.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out H W"]:
        """Return the product of each pixel's channels with the weights."""
        return to_map(F.linear(to_tokens(x), self.weight.flatten(1), self.bias), x.shape[2:])


class ChannelFactors(nn.Conv2d):
    """Depthwise 1x1 convolution, weights (C, 1, 1, 1): a factor for each channel.

    In training on a CPU the convolution would run channel by channel, many times as long as the
    product. Under autocast a map keeps its precision.

    Args:
        channels: Channels C of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1, groups=channels, bias=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return every channel times its weight."""
        return x * self.weight.flatten()[:, None, None].to(x.dtype)
