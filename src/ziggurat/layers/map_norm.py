"""LayerNorm over the channels of a feature map."""

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.tokens import to_map, to_tokens


class MapNorm(nn.LayerNorm):
    """LayerNorm that takes a map (B, C, H, W) and normalises the channels of each pixel.

    In channels_last memory its tokens are a view, so nothing is copied in front or behind.
    """

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the normalised map in channels_last memory."""
        return to_map(super().forward(to_tokens(x)), x.shape[2:])
