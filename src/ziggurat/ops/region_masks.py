"""Masks between the image and small square regions of it, both ways.

A network predicts a mask as 28 x 28 probabilities of a box; in the image only the pixels around
that box can belong to it, so that nothing else is computed or stored.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import roi_align

from ziggurat.types import ImageSize, ObjectMasks

THRESHOLD = 0.5
"""A pixel belongs to an object from this probability on."""


def paste_masks(
    probabilities: Float[Tensor, "N m m"], boxes: Float[Tensor, "N 4"], size: ImageSize
) -> ObjectMasks:
    """Enlarge masks to their boxes, as the published systems do: bilinear at pixel centres.

    torchvision enlarges and rounds the boxes instead, which gives other pixels.

    Args:
        probabilities: What is predicted inside each box.
        boxes: x1, y1, x2, y2 in pixels of the image.
        size: Height and width of the image.
    """
    height, width = size
    # A pixel whose centre lies outside its box is interpolated with zeros and stays below 0.5.
    corners = torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], dim=1).long()
    corners[:, 0::2].clamp_(0, width)
    corners[:, 1::2].clamp_(0, height)
    pixels = [torch.zeros(0, dtype=torch.bool, device=boxes.device)]
    windows = []
    for mask, box, (left, top, right, bottom) in zip(
        probabilities, boxes, corners.tolist(), strict=True
    ):
        windows.append([left, top, max(right - left, 0), max(bottom - top, 0)])
        if windows[-1][2] and windows[-1][3]:
            pixels.append(_sample(mask, box, windows[-1]).flatten())
    table = torch.tensor(windows, device=boxes.device, dtype=torch.int64).view(-1, 4)
    return ObjectMasks(torch.cat(pixels), table, size)


def _sample(
    mask: Float[Tensor, "m m"], box: Float[Tensor, "4"], window: list[int]
) -> Bool[Tensor, "h w"]:
    left, top, width, height = window
    x = torch.arange(left, left + width, device=box.device) + 0.5
    y = torch.arange(top, top + height, device=box.device) + 0.5
    x = (x - box[0]) / (box[2] - box[0]) * 2 - 1
    y = (y - box[1]) / (box[3] - box[1]) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    values = F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
    return values >= THRESHOLD


def masks_in_regions(
    masks: ObjectMasks, objects: Int[Tensor, " P"], regions: Float[Tensor, "P 4"], side: int
) -> Float[Tensor, "P side side"]:
    """Return what regions show of the masks of their objects, as zeros and ones.

    Equal to RoIAlign of masks of the whole image, which are not made: an image of a thousand
    objects needs a thousand small windows.

    Args:
        masks: Masks of the objects of an image.
        objects: Number of the object of each region.
        regions: x1, y1, x2, y2 in pixels.
        side: Side of the result, in cells.
    """
    result = regions.new_zeros((len(regions), side, side))
    crops = masks.crops()
    windows = masks.windows.tolist()
    for number in objects.unique().tolist():
        left, top, width, height = windows[number]
        if not width * height:
            continue
        # A margin of zeros where the image goes on: at its border RoIAlign repeats the last pixel.
        margin = (
            int(left > 0),
            int(left + width < masks.size[1]),
            int(top > 0),
            int(top + height < masks.size[0]),
        )
        mine = (objects == number).nonzero().flatten()
        corner = regions.new_tensor([left - margin[0], top - margin[2]] * 2)
        shown = roi_align(
            F.pad(crops[number].to(regions.dtype), margin)[None, None],
            [regions[mine] - corner],
            side,
            aligned=True,
        )
        result[mine] = (shown[:, 0] >= THRESHOLD).to(regions.dtype)
    return result
