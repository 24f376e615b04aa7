"""Deformable attention: a query reads a few points, wherever it wants, on maps of several scales.

Zhu et al., arXiv:2010.04159, eq. 3. Positions are learned and fall between pixels; a value there is
interpolated from the four around it, with zeros beyond the border.

Shapes: B images, Q queries, L levels, P points a level, D = C / heads, N pixels of all levels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ziggurat.types import ImageSize


def deformable_sample(
    values: Float[Tensor, "B N heads D"],
    sizes: Sequence[ImageSize],
    centers: Float[Tensor, "Q 2"],
    offsets: Float[Tensor, "B Q heads L P 2"],
    weights: Float[Tensor, "B Q heads L P"],
) -> Float[Tensor, "B Q heads*D"]:
    """Return for each query the weighted sum of the values at its points.

    A point lies at center * (W, H) - 0.5 + offset in its level, where whole numbers are the centres
    of pixels.

    Args:
        values: Pixels of all levels, level by level, each in row-major order.
        sizes: (height, width) of each level.
        centers: (x, y) that a query looks from, as fractions of width and height.
        offsets: (x, y) from there to each point, in pixels of its level.
        weights: Weight of each point.
    """
    # Positions on a map of hundreds of pixels need all 32 bits.
    arguments = (values, sizes, centers.float(), offsets.float(), weights.float())
    # Graphs sample on a grid: runtimes have a kernel for it and none for weighted bags.
    if torch.compiler.is_compiling():
        return sample_by_grid(*arguments)
    return sample_by_bag(*arguments)


def sample_by_bag(
    values: Float[Tensor, "B N heads D"],
    sizes: Sequence[ImageSize],
    centers: Float[Tensor, "Q 2"],
    offsets: Float[Tensor, "B Q heads L P 2"],
    weights: Float[Tensor, "B Q heads L P"],
) -> Float[Tensor, "B Q heads*D"]:
    """Compute `deformable_sample` as a weighted sum of 4 * L * P rows of a table.

    What the points read is never held in memory, only its sum. On a CPU this is twice as fast as
    sampling on a grid.
    """
    batch, num_pixels, num_heads, _ = values.shape
    pixels, shares = [], []
    start = 0
    for level, (height, width) in enumerate(sizes):
        x = _along(centers[:, 0], width, offsets[..., level, :, 0])
        y = _along(centers[:, 1], height, offsets[..., level, :, 1])
        for row, row_share in _neighbours(y, height):
            for column, column_share in _neighbours(x, width):
                pixels.append((row * width + column).long() + start)
                shares.append(row_share * column_share * weights[..., level, :])
        start += height * width
    images = torch.arange(batch, device=values.device).view(-1, 1, 1, 1)
    heads = torch.arange(num_heads, device=values.device).view(-1, 1)
    rows = (images * num_pixels + torch.cat(pixels, dim=-1)) * num_heads + heads
    sums = F.embedding_bag(
        rows.flatten(0, 2),
        values.flatten(0, 2),
        mode="sum",
        per_sample_weights=torch.cat(shares, dim=-1).flatten(0, 2).to(values.dtype),
    )
    return sums.unflatten(0, (batch, -1, num_heads)).flatten(2)


def _along(
    centers: Float[Tensor, " Q"], size: int, offsets: Float[Tensor, "B Q heads P"]
) -> Float[Tensor, "B Q heads P"]:
    """Return positions along one side of a level, in pixels."""
    return (centers * size - 0.5)[:, None, None] + offsets


def _neighbours(
    position: Float[Tensor, "B Q heads P"], size: int
) -> list[tuple[Float[Tensor, "B Q heads P"], Float[Tensor, "B Q heads P"]]]:
    """Return the pixels before and after a position, and the share of each; 0 beyond the border."""
    before = position.floor()
    share = position - before
    return [
        (pixel.clamp(0, size - 1), part * ((pixel >= 0) & (pixel < size)))
        for pixel, part in ((before, 1 - share), (before + 1, share))
    ]


def sample_by_grid(
    values: Float[Tensor, "B N heads D"],
    sizes: Sequence[ImageSize],
    centers: Float[Tensor, "Q 2"],
    offsets: Float[Tensor, "B Q heads L P 2"],
    weights: Float[Tensor, "B Q heads L P"],
) -> Float[Tensor, "B Q heads*D"]:
    """Compute `deformable_sample` by `grid_sample`, level by level."""
    batch, _, num_heads, _ = values.shape
    maps = values.permute(0, 2, 3, 1).flatten(0, 1)  # (B * heads, D, N)
    sums = values.new_zeros(())
    for level, (height, width) in enumerate(sizes):
        features, maps = maps.split((height * width, maps.shape[2] - height * width), dim=2)
        x = _along(centers[:, 0], width, offsets[..., level, :, 0])
        y = _along(centers[:, 1], height, offsets[..., level, :, 1])
        # -1 and 1 are the outer borders of the first and of the last pixel.
        grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
        points = F.grid_sample(
            features.unflatten(2, (height, width)),
            grid.transpose(1, 2).flatten(0, 1).to(values.dtype),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        share = weights[..., level, :].transpose(1, 2).flatten(0, 1).to(values.dtype)
        sums = sums + (points * share[:, None]).sum(dim=-1)
    return sums.unflatten(0, (batch, num_heads)).permute(0, 3, 1, 2).flatten(2)
