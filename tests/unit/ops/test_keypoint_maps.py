"""Points to cells and back, equal to torchvision's Keypoint R-CNN."""

import pytest
import torch
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints, keypoints_to_heatmap

from ziggurat.ops.keypoint_maps import maps_to_points, points_to_cells


def random_regions(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 50
    size = 0.5 + torch.rand(count, 2, generator=generator) * 40
    return torch.cat([corner, corner + size], dim=1)


@pytest.mark.parametrize("seed", range(5))
def test_cells_are_those_of_torchvision(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    regions = random_regions(20, seed)
    place = torch.rand(20, 7, 2, generator=generator) * 110 - 10
    place[:, 0] = regions[:, 2:]  # at the last edge
    place[:, 1] = regions[:, :2]
    visibility = torch.randint(0, 3, (20, 7, 1), generator=generator)
    points = torch.cat([place, visibility], dim=2)
    cells, is_inside = points_to_cells(points, regions, 56)
    expected, valid = keypoints_to_heatmap(points, regions, 56)
    assert torch.equal(is_inside, valid.bool())
    assert torch.equal(cells, expected)
    assert is_inside.any() and not is_inside.all()


def test_a_cell_by_hand() -> None:
    regions = torch.tensor([[10.0, 20.0, 18.0, 24.0]])
    points = torch.tensor([[[13.9, 21.0, 2.0], [13.9, 21.0, 0.0], [9.0, 21.0, 2.0]]])
    cells, is_inside = points_to_cells(points, regions, 4)  # cells of 2 x 1 pixels
    assert cells.tolist() == [[1 * 4 + 1, 0, 0]]
    assert is_inside.tolist() == [[True, False, False]]


@pytest.mark.parametrize("seed", range(5))
def test_places_are_those_of_torchvision(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 5, 56, 56, generator=generator) * 3
    regions = random_regions(6, seed)
    found = maps_to_points(logits, regions)
    expected, _ = heatmaps_to_keypoints(logits, regions)
    torch.testing.assert_close(found[..., :2], expected[..., :2], rtol=0, atol=1e-5)


def test_a_point_goes_to_its_cell_and_comes_back() -> None:
    regions = random_regions(30, 0)
    regions[:, 2:] += 56  # of a smaller region the map has more cells than it has pixels
    share = torch.rand(30, 4, 2, generator=torch.Generator().manual_seed(1))
    place = regions[:, None, :2] + share * (regions[:, None, 2:] - regions[:, None, :2])
    points = torch.cat([place, torch.full((30, 4, 1), 2.0)], dim=2)
    cells, is_inside = points_to_cells(points, regions, 56)
    assert is_inside.all()
    logits = torch.nn.functional.one_hot(cells, 56 * 56).float().unflatten(2, (56, 56)) * 20
    found = maps_to_points(logits, regions)
    # Half a pixel, or half a cell where those are larger, in either direction.
    limit = ((regions[:, 2:] - regions[:, :2]).clamp(min=1) / 56).clamp(min=1)[:, None]
    assert ((found[..., :2] - place).abs() <= limit).all()


def test_scores_say_how_much_lies_in_one_place() -> None:
    regions = torch.tensor([[0.0, 0.0, 56.0, 56.0]])
    logits = torch.zeros(1, 4, 56, 56)
    logits[0, 1, 20, 30] = 40.0  # all in one cell
    logits[0, 2, 20, 30] = logits[0, 2, 50, 3] = 40.0  # in two places
    logits[0, 3, 0, 0] = 40.0  # at the corner
    scores = maps_to_points(logits, regions)[0, :, 2]
    expected = torch.tensor([4 / 56**2, 1.0, 0.5, 1.0])  # at a corner four cells are one place
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


def test_no_regions_have_no_points() -> None:
    assert maps_to_points(torch.zeros(0, 3, 56, 56), torch.zeros(0, 4)).shape == (0, 3, 3)
