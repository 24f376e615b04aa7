"""Fully connected layer and norm, as `ConvNorm` is convolution and norm."""

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.conv_norm import NormBuilder


class LinearNorm(nn.Module):
    """Fully connected layer with bias, and norm; no activation.

    Args:
        in_features: Numbers that come in; maps are flattened.
        out_features: Numbers that go out.
        norm: Builds the norm of a number of features.
    """

    def __init__(self, in_features: int, out_features: int, norm: NormBuilder) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.norm = norm(out_features)

    def forward(self, x: Float[Tensor, "M *in"]) -> Float[Tensor, "M out"]:
        """Return the normalised vectors."""
        y: Tensor = self.norm(self.linear(x.flatten(1)))
        return y
