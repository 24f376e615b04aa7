"""RoIAlign (He et al., arXiv:1703.06870, section 3): regions of a map, all cut out to one size.

A region is divided into cells, in a cell a grid of points is read by bilinear interpolation, and
their mean is the cell's value. On a CPU that is a weighted sum of a few pixels for each cell, of
all channels at once: in channels_last memory they lie side by side, and whole rows are added up,
five to ten times as fast as torchvision's operator, which gathers number by number.

Shapes: B images, C channels, H x W map, M regions, s cells a side, P points a side of a cell, K
pixels a side that a cell reads.
"""

import torch
import torch.nn.functional as F
import torchvision.ops
from jaxtyping import Float, Int
from torch import Tensor

from ziggurat.ops.precision import at_least_float32

REGIONS_AT_ONCE = 64
"""Regions whose pixels are listed together; lists are as long as the largest of them needs."""


def roi_align(
    level: Float[Tensor, "B C H W"],
    regions: Float[Tensor, "M 5"],
    output_size: int,
    scale: float,
    sampling_ratio: int,
    *,
    aligned: bool = True,
) -> Float[Tensor, "M C s s"]:
    """Cut regions out of a map; equal to torchvision's operator in float32.

    Positions in large maps need as much; under autocast the map may have half of it.

    Args:
        level: The map. Gradients flow to it, not to the regions.
        regions: Number of the image and x1, y1, x2, y2 in pixels.
        output_size: Cells a side of the result.
        scale: Cells of the map per pixel.
        sampling_ratio: Points a side of a cell; 0 takes as many as it has pixels.
        aligned: Whether the middle of a pixel is half a pixel from its border. Caffe2's operator
            reads half a pixel too far, and no region smaller than a pixel: False does so too.
    """
    if level.device.type != "cpu" or torch.compiler.is_compiling() or not len(regions):
        values = at_least_float32(level)
        cut = torchvision.ops.roi_align(
            values, regions.to(values.dtype), output_size, scale, sampling_ratio, aligned=aligned
        )
        return cut.to(level.dtype)
    rows = level.permute(0, 2, 3, 1).reshape(-1, level.shape[1]).float()
    with torch.no_grad():
        corners = regions[:, 1:].float() * scale - (0.5 if aligned else 0.0)
        size = corners[:, 2:] - corners[:, :2]
        size = size if aligned else size.clamp(min=1)
        points = _points(size, output_size, sampling_ratio)
        # Regions that read about as many points go together.
        order = points.prod(dim=1).argsort()
        lists = [
            _list_pixels(
                level, regions[some, 0], corners[some, :2], size[some], points[some], output_size
            )
            for some in order.split(REGIONS_AT_ONCE)
        ]
        lengths = torch.cat([torch.full((len(pixels),), pixels.shape[1]) for pixels, _ in lists])
        begins = lengths.cumsum(0) - lengths
    cells = F.embedding_bag(
        torch.cat([pixels.flatten() for pixels, _ in lists]),
        rows,
        begins,
        per_sample_weights=torch.cat([weights.flatten() for _, weights in lists]),
        mode="sum",
    )
    cut = cells.view(len(order), output_size, output_size, -1)
    # A copy to each region's place: the gradient of an index would be added up one by one.
    cut = torch.empty_like(cut).index_copy_(0, order, cut)
    return cut.permute(0, 3, 1, 2).to(level.dtype)


def _list_pixels(
    level: Float[Tensor, "B C H W"],
    images: Float[Tensor, " M"],
    start: Float[Tensor, "M 2"],
    size: Float[Tensor, "M 2"],
    points: Float[Tensor, "M 2"],
    output_size: int,
) -> tuple[Int[Tensor, "cells pixels"], Float[Tensor, "cells pixels"]]:
    """Return the numbers and weights of the pixels that the cells of some regions read.

    Args:
        level: The map.
        images: Number of the image of each region.
        start: Where each region begins, across and down, in cells of the map from centre to centre.
        size: How wide and how high it is.
        points: Points a side of a cell, across and down.
        output_size: Cells a side of the result.
    """
    height, width = level.shape[2:]
    x, x_weights = _axis(start[:, 0], size[:, 0], points[:, 0], output_size, width)
    y, y_weights = _axis(start[:, 1], size[:, 1], points[:, 1], output_size, height)
    y = (images.long() * height)[:, None, None] + y
    pixels = (y * width)[:, :, None, :, None] + x[:, None, :, None, :]
    weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
    return pixels.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2)


def _points(
    size: Float[Tensor, "M 2"], output_size: int, sampling_ratio: int
) -> Float[Tensor, "M 2"]:
    """Return how many points a side are read in a cell of each region, across and down."""
    if sampling_ratio > 0:
        return torch.full_like(size, sampling_ratio)
    # Of an empty region none, nor of one that is no number, whose values are none either.
    return (size / output_size).ceil().clamp(min=0).nan_to_num(0.0, posinf=0.0)


def _axis(
    start: Float[Tensor, " M"],
    size: Float[Tensor, " M"],
    points: Float[Tensor, " M"],
    output_size: int,
    length: int,
) -> tuple[Int[Tensor, "M s K"], Float[Tensor, "M s K"]]:
    """Return what each cell reads along one axis: pixels and their weights.

    Args:
        start: Where each region begins, in cells of the map.
        size: How long it is.
        points: How many points are read in a cell of it.
        output_size: Cells s.
        length: Pixels of the map.
    """
    cell = (size / output_size)[:, None, None]
    number = torch.arange(max(1, int(points.max())))
    begin = start[:, None, None] + torch.arange(output_size)[:, None] * cell
    position = begin + (number + 0.5) * cell / points.clamp(min=1)[:, None, None]
    # Points more than a pixel outside of the map read zeros, nearer ones the pixel at the border.
    is_read = (number < points[:, None, None]) & (position >= -1) & (position <= length)
    position = position.clamp(0, length - 1)
    pixel = position.floor().clamp(max=max(length - 2, 0))
    share = position - pixel
    weight = is_read / points.clamp(min=1)[:, None, None]
    begin = torch.where(is_read, pixel, float(length)).amin(dim=2, keepdim=True)
    offset = torch.where(is_read, pixel - begin, 0.0).long()
    if 2 * len(number) < int(offset.max()) + 2:
        # Few points far apart, as in a large region of a fine map: two pixels for each of them.
        first = torch.where(is_read, pixel, 0.0).long()
        pixels = torch.stack([first, first + 1], dim=3).flatten(2)
        weights = torch.stack([(1 - share) * weight, share * weight], dim=3).flatten(2)
        return pixels.clamp(max=length - 1), weights
    weights = position.new_zeros((*offset.shape[:2], int(offset.max()) + 2))
    weights.scatter_add_(2, offset, (1 - share) * weight)
    weights.scatter_add_(2, offset + 1, share * weight)
    pixels = begin.long() + torch.arange(weights.shape[2])
    return pixels.clamp(max=length - 1), weights
