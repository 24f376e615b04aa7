"""The two views of a feature map: (B, C, H, W) for convolutions, (B, N, C) for attention.

In channels_last memory both are the same bytes, so neither direction copies.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor


def to_tokens(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N C"]:
    """View a channels_last map as N = H * W tokens in row-major order."""
    return x.flatten(2).mT


def to_map(tokens: Float[Tensor, "B N C"], size: Sequence[int]) -> Float[Tensor, "B C H W"]:
    """View tokens in row-major order as a channels_last map of the size (H, W)."""
    # Not tokens.mT.unflatten(2, size): with one image its batch stride is wrong, for which PyTorch
    # takes the map for contiguous, and convolutions copy it.
    return tokens.unflatten(1, tuple(size)).permute(0, 3, 1, 2)
