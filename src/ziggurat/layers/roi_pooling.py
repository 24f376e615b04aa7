"""RoIAlign over a pyramid (He et al., arXiv:1703.06870, section 3; Lin et al., arXiv:1612.03144).

A region is read from the level on which it is about as large as an ImageNet image is for the
backbone: large regions from coarse levels, small ones from fine levels.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ziggurat.ops.roi_align import roi_align

CANONICAL_SIZE = 56
"""Side of the largest regions that the finest level serves alone, in pixels."""


class RoIPooling(nn.Module):
    """Cut regions out of the levels of a pyramid, all to one size.

    Args:
        strides: Strides of the levels, fine to coarse.
        output_size: Side of the result, in cells.
        sampling_ratio: Points a side that are averaged in a cell; 0 takes as many as the cell has
            pixels, which the published systems do and torchvision's do not.
    """

    def __init__(self, strides: Sequence[int], output_size: int, sampling_ratio: int = 0) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio

    def forward(
        self,
        levels: Sequence[Float[Tensor, "B C _ _"]],
        rois_per_image: Sequence[Float[Tensor, "_ 4"]],
    ) -> Float[Tensor, "M C s s"]:
        """Return the cut-outs of all images, one image after another.

        Args:
            levels: At least as many levels as strides; further ones are not read.
            rois_per_image: Regions of each image as x1, y1, x2, y2 in pixels.
        """
        rois = torch.cat(list(rois_per_image))
        if rois.is_meta:  # a model's cost is counted: there are shapes, and no regions
            return levels[0].new_empty(
                (len(rois), levels[0].shape[1], self.output_size, self.output_size)
            )
        numbered = number_regions(rois_per_image)
        level_of = level_of_region(rois, len(self.strides))
        parts, numbers = [], []
        for index, (level, stride) in enumerate(zip(levels, self.strides, strict=False)):
            mine = (level_of == index).nonzero().flatten()
            regions = numbered[mine]
            # Even without regions, so that every level is a part of every training graph.
            part = roi_align(level, regions, self.output_size, 1 / stride, self.sampling_ratio)
            parts.append(part.permute(0, 2, 3, 1))
            numbers.append(mine)
        # Channels stay last, as they were read and as convolutions want them.
        cut = torch.cat(parts)
        result = torch.empty_like(cut).index_copy_(0, torch.cat(numbers), cut)
        return result.permute(0, 3, 1, 2)


def number_regions(rois_per_image: Sequence[Float[Tensor, "_ 4"]]) -> Float[Tensor, "M 5"]:
    """Put the regions of all images below one another, the number of its image before each.

    Args:
        rois_per_image: Regions of each image.
    """
    rois = torch.cat(list(rois_per_image))
    images = torch.repeat_interleave(
        torch.arange(len(rois_per_image), device=rois.device),
        torch.tensor([len(part) for part in rois_per_image], device=rois.device),
        output_size=len(rois),
    )
    return torch.cat([images[:, None].to(rois.dtype), rois], dim=1)


def level_of_region(rois: Float[Tensor, "M 4"], num_levels: int) -> Int[Tensor, " M"]:
    """Return the level that each region is read from, 0 for the finest.

    Lin et al., arXiv:1612.03144, eq. 1.

    Args:
        rois: Regions in pixels.
        num_levels: Number of levels.
    """
    size = ((rois[:, 2] - rois[:, 0]) * (rois[:, 3] - rois[:, 1])).sqrt()
    level = (size / CANONICAL_SIZE + 1e-6).log2().floor()
    # A region that is no number has a level, too, where it stays visible.
    return level.nan_to_num(0.0).clamp(0, num_levels - 1).long()
