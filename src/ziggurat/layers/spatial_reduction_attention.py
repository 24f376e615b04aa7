"""Spatial-reduction attention, what makes the PVT families affordable at four scales.

Every token asks, but only a reduced map answers: keys and values are taken from a map whose sides
are R times shorter, so the cost falls by R^2 (Wang et al., arXiv:2102.12122, section 3.3).

Shapes: B images, C channels, H x W map, N = H * W queries, M tokens of the reduced map,
D = C / heads.
"""

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.map_norm import MapNorm
from ziggurat.layers.tokens import to_map, to_tokens
from ziggurat.ops.attention import attend


class SpatialReductionAttention(nn.Module):
    """Self-attention over a map, with keys and values of a smaller one (arXiv:2102.12122, eq. 1-3).

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
        reduction: Makes the smaller map; `nn.Identity()` for plain attention, which does not
            depend on how its tokens lie in the map.

    Raises:
        ValueError: If `num_heads` does not divide `dim`.
    """

    def __init__(self, dim: int, num_heads: int, reduction: nn.Module) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got dim={dim}, num_heads={num_heads}")
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.reduction = reduction
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Mix the tokens of the map."""
        q = self._split_heads(self.q(to_tokens(x)))
        k, v = self.kv(to_tokens(self.reduction(x))).chunk(2, dim=-1)
        y = attend(q, self._split_heads(k), self._split_heads(v))
        return to_map(self.proj(y.transpose(1, 2).flatten(2)), x.shape[2:])

    def _split_heads(self, t: Float[Tensor, "B N C"]) -> Float[Tensor, "B heads N D"]:
        return t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class StridedReduction(nn.Module):
    """One token for each window of R x R, by a convolution and a LayerNorm (eq. 4).

    Rows and columns beyond the last whole window give no key.

    Args:
        dim: Number of channels C.
        ratio: Side R of a window, in cells of the map.
    """

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, ratio, stride=ratio)
        self.norm = MapNorm(dim)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        """Return the smaller map, its sides divided by R and rounded down."""
        y: Tensor = self.norm(self.conv(x))
        return y


def spatial_reduction(dim: int, ratio: int) -> nn.Module:
    """Return the reduction of a stage; a ratio of 1 has neither convolution nor norm.

    Args:
        dim: Number of channels.
        ratio: Side of a window, in cells of the map.
    """
    return StridedReduction(dim, ratio) if ratio > 1 else nn.Identity()
