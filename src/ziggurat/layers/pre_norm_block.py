"""The residual block of transformers that normalise first, on maps."""

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.map_norm import MapNorm
from ziggurat.layers.stochastic_depth import add_branch, stochastic_depth


class FeedForwardBranch(nn.Module):
    """The second half of a block: feed-forward, normalised first and added to its input."""

    norm2: MapNorm
    mlp: nn.Module
    drop_path: nn.Module

    def mix_channels(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the map after this half."""
        return add_branch(x, lambda part: self.mlp(self.norm2(part)), self.drop_path)


class PreNormBlock(FeedForwardBranch):
    """Attention and feed-forward, each normalised first and added to its input.

    Args:
        dim: Number of channels C.
        attn: Mixes tokens, map to map.
        mlp: Mixes channels, map to map.
        drop_path: Probability that a sample skips a branch in training.
    """

    def __init__(self, dim: int, attn: nn.Module, mlp: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.norm1 = MapNorm(dim, eps=1e-6)
        self.attn = attn
        self.norm2 = MapNorm(dim, eps=1e-6)
        self.mlp = mlp
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the map after both branches."""
        x = add_branch(x, lambda part: self.attn(self.norm1(part)), self.drop_path)
        return self.mix_channels(x)
