"""The neck of systems that read one map only, as DETR does (Carion et al., arXiv:2005.12872)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class Coarsest(nn.Module):
    """Pass the coarsest map on.

    Args:
        in_channels: Channels of the backbone's maps, fine to coarse.
        in_strides: Their strides.
    """

    def __init__(self, in_channels: Sequence[int], in_strides: Sequence[int]) -> None:
        super().__init__()
        self.out_channels = (in_channels[-1],)
        self.out_strides = (in_strides[-1],)

    def forward(
        self, features: Sequence[Float[Tensor, "B _ _ _"]]
    ) -> list[Float[Tensor, "B C H W"]]:
        """Return the last map, alone."""
        return [features[-1]]
