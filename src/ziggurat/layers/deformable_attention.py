"""Multi-scale deformable attention as a module (Zhu et al., arXiv:2010.04159, section 4.1).

Where a query looks, and how much each point counts, are linear functions of the query itself:
there are no keys, and the cost is linear in the number of queries.

Shapes: B images, C channels, Q queries, N pixels of all levels, L levels, P points a level.
"""

from collections.abc import Sequence
from math import cos, pi, sin

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.ops.deformable_attention import deformable_sample
from ziggurat.types import ImageSize


class DeformableAttention(nn.Module):
    """Queries that stand on the pixels of maps read points of other maps.

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads.
        num_levels: Number of maps L that are read.
        num_points: Points P that a head reads on each of them.

    Raises:
        ValueError: If `num_heads` does not divide `dim`.
    """

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got dim={dim}, num_heads={num_heads}")
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Let every head look in a direction of its own, and each point a pixel further."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        angles = [2 * pi * head / self.num_heads for head in range(self.num_heads)]
        directions = torch.tensor([[cos(angle), sin(angle)] for angle in angles])
        directions = directions / directions.abs().amax(dim=1, keepdim=True)
        steps = torch.arange(1.0, self.num_points + 1)
        offsets = directions[:, None, None] * steps[:, None]
        with torch.no_grad():
            offsets = offsets.expand(-1, self.num_levels, -1, -1)
            self.sampling_offsets.bias.copy_(offsets.flatten())

    def forward(
        self,
        queries: Float[Tensor, "B Q C"],
        query_sizes: Sequence[ImageSize],
        features: Float[Tensor, "B N C"],
        feature_sizes: Sequence[ImageSize],
    ) -> Float[Tensor, "B Q C"]:
        """Return what each query read.

        Args:
            queries: Pixels of one or several maps, map by map.
            query_sizes: (height, width) of each of them.
            features: Pixels of the L maps that are read, map by map.
            feature_sizes: (height, width) of each of them.
        """
        points = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(queries).unflatten(-1, (*points, 2))
        weights = self.attention_weights(queries).unflatten(-1, (self.num_heads, -1)).softmax(-1)
        values = self.value_proj(features).unflatten(-1, (self.num_heads, -1))
        read = deformable_sample(
            values,
            feature_sizes,
            pixel_centers(query_sizes, queries.device),
            offsets,
            weights.unflatten(-1, points[1:]),
        )
        y: Tensor = self.output_proj(read)
        return y


def pixel_centers(sizes: Sequence[ImageSize], device: torch.device) -> Float[Tensor, "Q 2"]:
    """Return the centres of the pixels of maps as fractions (x, y) of width and height.

    Args:
        sizes: (height, width) of each map.
        device: Where the result lies.
    """
    centers = []
    for height, width in sizes:
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        centers.append(torch.stack((columns, rows), dim=-1).flatten(0, 1))
    return torch.cat(centers)
