"""Adaptive feature pooling (Liu et al., PANet, arXiv:1803.01534, section 3.2).

An FPN reads a region from the one level of its size. Here it is read from every level, what was
read goes through a layer of its level's own, and of each number the largest is kept: a small object
has the context of coarse levels, a large one the detail of fine levels, as far as they help it.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torchvision.ops
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.roi_pooling import number_regions
from ziggurat.ops.roi_align import roi_align

SAMPLING_RATIO = 2


class AdaptiveFeaturePooling(nn.Module):
    """Cut regions out of all levels, each through its own layer, and keep the largest.

    Regions are read as Caffe2 does: a box ends in its last pixel, not behind it, and pixels are
    points at whole numbers.

    Args:
        strides: Strides of the levels, fine to coarse.
        output_size: Side of a cut-out, in cells.
        layers: A layer for each level; all give the same shape.
        method: How a cell is read: the mean of 2 x 2 points ("align"), or the largest of its
            pixels ("max", which is RoIPool of Fast R-CNN).

    Raises:
        ValueError: If there is not one layer for each level.
    """

    def __init__(
        self,
        strides: Sequence[int],
        output_size: int,
        layers: Sequence[nn.Module],
        *,
        method: Literal["align", "max"] = "align",
    ) -> None:
        super().__init__()
        if len(layers) != len(strides):
            raise ValueError(f"{len(strides)} levels need a layer each, got {len(layers)} layers")
        self.strides = tuple(strides)
        self.output_size = output_size
        self.method = method
        self.layers = nn.ModuleList(layers)

    def forward(
        self,
        levels: Sequence[Float[Tensor, "B C _ _"]],
        rois_per_image: Sequence[Float[Tensor, "_ 4"]],
    ) -> Float[Tensor, "M *out"]:
        """Return what is kept of the regions of all images, one image after another.

        Args:
            levels: At least as many levels as strides; further ones are not read.
            rois_per_image: Regions of each image as x1, y1, x2, y2 in pixels.
        """
        regions = number_regions(rois_per_image)
        regions = regions - regions.new_tensor([0, 0, 0, 1, 1])
        kept = None
        # One level after the other: the cut-outs of a thousand regions take 50 MB a level.
        for level, stride, layer in zip(levels, self.strides, self.layers, strict=False):
            said = layer(self._cut(level, regions, stride))
            kept = said if kept is None else torch.maximum(kept, said)
        assert kept is not None
        # Behind the maximum, where it does the same as in front.
        return kept.relu()

    def _cut(
        self, level: Float[Tensor, "B C _ _"], regions: Float[Tensor, "M 5"], stride: int
    ) -> Float[Tensor, "M C s s"]:
        side = self.output_size
        if regions.is_meta:  # a model's cost is counted: there are shapes, and no regions
            return level.new_empty((len(regions), level.shape[1], side, side))
        if self.method == "align":
            return roi_align(level, regions, side, 1 / stride, SAMPLING_RATIO, aligned=False)
        cut = torchvision.ops.roi_pool(level.float(), regions.float(), side, 1 / stride)
        return cut.to(level.dtype)
