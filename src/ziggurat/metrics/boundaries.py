"""Boundary IoU: intersection over union of what lies near contours (Cheng et al., CVPR 2021).

A large object may overlap the truth by 95 % and have no edge right. Boundary IoU
(arXiv:2103.16562, eq. 2) compares only the pixels of a mask that are within a distance d of its own
contour, in the truth and in the prediction; d is 2 % of the image's diagonal.

A pixel is that near exactly where the square of side 2 d + 1 around it is not all of one class, so
that one look at the label map serves all classes. The edge of the image is a contour, as in the
authors' code, and so is the edge of what nobody labelled, in truth and prediction alike: nothing
behind it is known.
"""

import math

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from ziggurat.types import ImageSize

BOUNDARY_SHARE = 0.02
"""Distance from a contour, as a share of the image's diagonal."""


def boundary_distance(size: ImageSize) -> int:
    """Return how far from a contour pixels of an image of this size count, at least 1.

    Args:
        size: Height and width.
    """
    return max(1, round(BOUNDARY_SHARE * math.hypot(*size)))


def near_boundary(labels: Shaped[Tensor, "H W"], distance: int) -> Bool[Tensor, "H W"]:
    """Tell which pixels have another class, or the edge of the image, within `distance`.

    Equal to eroding the mask of each class `distance` times by 3 x 3 pixels and taking what is
    lost, at the cost of one class.

    Args:
        labels: Class of each pixel.
        distance: In pixels, along rows and columns (Chebyshev's distance), at least 1.
    """
    height, width = labels.shape
    margin = distance - 1
    # Corner (y, x) of the pixel grid changes where the four pixels around it differ.
    corners = labels.new_zeros((height + 1 + 2 * margin, width + 1 + 2 * margin), dtype=torch.bool)
    inner = corners[margin : margin + height + 1, margin : margin + width + 1]
    inner[0], inner[-1], inner[:, 0], inner[:, -1] = True, True, True, True
    first = labels[:-1, :-1]
    changes = inner[1:-1, 1:-1]
    changes.copy_(first != labels[1:, :-1])
    changes |= first != labels[:-1, 1:]
    changes |= first != labels[1:, 1:]
    return _any_of(_any_of(corners, 2 * distance, dim=1), 2 * distance, dim=0)


def _any_of(x: Bool[Tensor, "..."], length: int, *, dim: int) -> Bool[Tensor, "..."]:
    """Combine each `length` neighbours along a side by "or", in logarithmically many steps."""
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        rest = x.shape[dim] - step
        x = x.narrow(dim, 0, rest) | x.narrow(dim, step, rest)
        covered += step
    return x
