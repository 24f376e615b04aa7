"""What is near a contour, against the erosion of each class's mask by itself."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.metrics.boundaries import boundary_distance, near_boundary


def lost_by_erosion(labels: Tensor, distance: int) -> Tensor:
    """Do as the paper says: class by class, 3 x 3 pixels at a time, zeros around the image."""
    near = torch.zeros(labels.shape, dtype=torch.bool)
    for label in set(labels.flatten().tolist()):
        mask = F.pad((labels == label).float(), (1, 1, 1, 1))[None, None]
        eroded = mask
        for _ in range(distance):
            eroded = -F.max_pool2d(-eroded, 3, 1, 1)
        near |= (mask - eroded)[0, 0, 1:-1, 1:-1] > 0
    return near


@pytest.mark.parametrize("distance", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (13, 20), (30, 24)])
def test_equals_the_erosion_of_every_class(size: tuple[int, int], distance: int) -> None:
    generator = torch.Generator().manual_seed(distance)
    labels = torch.zeros(size, dtype=torch.uint8)
    for label in (1, 2, 255):
        ys, xs = (torch.randint(side, (2,), generator=generator).sort().values for side in size)
        labels[ys[0] : ys[1] + 1, xs[0] : xs[1] + 1] = label
    expected = lost_by_erosion(labels, distance)
    assert torch.equal(near_boundary(labels, distance), expected)
    assert torch.equal(near_boundary(labels.to(torch.int16), distance), expected)


def test_a_pixel_that_touches_another_class_only_at_its_corner_is_near() -> None:
    labels = torch.zeros(9, 9, dtype=torch.uint8)
    labels[4, 4] = 1
    near = near_boundary(labels, 1)
    assert near[3, 3]
    assert not near[2, 2]
    assert near[0].all()  # the edge of the image


def test_distance_is_two_percent_of_the_diagonal() -> None:
    assert boundary_distance((512, 512)) == 14
    assert boundary_distance((1024, 2048)) == 46
    assert boundary_distance((1, 1)) == 1
