"""Keypoints between the image and small square maps of a region, both ways.

A network says where a point of a region is as one of 56 x 56 cells. A point of the image falls into
one cell; a map is enlarged to the size of its region, and the centre of its best pixel is the
point.

Shapes: M regions, P points of each, m cells a side of a map.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

PEAK = 3
"""Cells a side of what counts as one place, to say how sure a map is."""


def points_to_cells(
    points: Float[Tensor, "M P 3"], regions: Float[Tensor, "M 4"], side: int
) -> tuple[Int[Tensor, "M P"], Bool[Tensor, "M P"]]:
    """Return the cell of each point, counted row by row, and whether there is one.

    A point that is not labelled has none, nor has one outside of its region. The right and the
    lower edge belong to the last cell.

    Args:
        points: x, y in pixels and visibility.
        regions: x1, y1, x2, y2 in pixels.
        side: Cells a side of a map.
    """
    corner, far = regions[:, None, :2], regions[:, None, 2:]
    place = points[..., :2]
    cells = ((place - corner) * (side / (far - corner))).floor().long()
    cells = torch.where(place == far, side - 1, cells)
    is_inside = ((cells >= 0) & (cells < side)).all(dim=2) & (points[..., 2] > 0)
    return torch.where(is_inside, cells[..., 1] * side + cells[..., 0], 0), is_inside


def maps_to_points(
    logits: Float[Tensor, "M P m m"], regions: Float[Tensor, "M 4"]
) -> Float[Tensor, "M P 3"]:
    """Return x, y in pixels and a score in [0, 1] for each map.

    The score is the share of the map's softmax that lies on the cell of the point and those around
    it: a map that knows one place has 1, one that knows nothing almost 0.

    Args:
        logits: What a network says of every cell.
        regions: x1, y1, x2, y2 in pixels.
    """
    size = (regions[:, 2:] - regions[:, :2]).clamp(min=1)
    pixels = size.ceil()
    best = logits.new_zeros((*logits.shape[:2], 2))
    for number, (width, height) in enumerate(pixels.long().tolist()):
        large = F.interpolate(
            logits[number, None], (height, width), mode="bicubic", align_corners=False
        )
        flat = large[0].flatten(1).argmax(dim=1)
        best[number] = torch.stack([flat % width, flat // width], dim=1)
    share = (best + 0.5) / pixels[:, None]
    points = regions[:, None, :2] + share * size[:, None]
    return torch.cat([points, _certainty(logits, share)[..., None]], dim=2)


def _certainty(
    logits: Float[Tensor, "M P m m"], share: Float[Tensor, "M P 2"]
) -> Float[Tensor, "M P"]:
    """Return the probability of the cells around a place.

    Args:
        logits: What a network says of every cell.
        share: x, y of the place as shares of the map.
    """
    side = logits.shape[-1]
    probabilities = logits.flatten(2).softmax(dim=2).unflatten(2, (side, side))
    around = F.avg_pool2d(probabilities, PEAK, stride=1, padding=PEAK // 2) * PEAK**2
    column, row = (share * side).long().clamp(max=side - 1).unbind(dim=2)
    picked: Tensor = around.flatten(2).gather(2, (row * side + column)[..., None])[..., 0]
    return picked.clamp(max=1)
