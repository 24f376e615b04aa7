"""Pasted objects cover what was there, and boxes follow their masks."""

import pytest
import torch

from ziggurat.data.copy_paste import paste_objects
from ziggurat.types import Detections, ObjectMasks


def scene(
    size: tuple[int, int], value: float, *boxes: tuple[int, int, int, int]
) -> tuple[torch.Tensor, Detections]:
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    found = Detections(
        torch.tensor(boxes).reshape(-1, 4).float(),
        torch.ones(len(boxes)),
        torch.full((len(boxes),), int(value)),
        ObjectMasks.from_full(masks),
    )
    return torch.full((3, *size), float(value)), found


def paste_all(
    first: tuple[torch.Tensor, Detections], second: tuple[torch.Tensor, Detections]
) -> tuple[torch.Tensor, Detections]:
    """Draw until every object of the second is pasted."""
    for number in range(200):
        torch.manual_seed(number)
        image, found = paste_objects(*first, *second)
        if (found.labels == 2).sum() == len(second[1]):
            return image, found
    pytest.fail("never pasted all objects")


def test_covered_pixels_leave_their_object() -> None:
    image, found = paste_all(
        scene((20, 30), 1, (2, 2, 12, 12), (20, 2, 25, 8), (13, 5, 14, 6)),
        scene((20, 30), 2, (6, 0, 16, 20)),
    )
    assert found.labels.tolist() == [1, 1, 2]  # the third one was covered whole
    assert found.boxes.tolist() == [[2, 2, 6, 12], [20, 2, 25, 8], [6, 0, 16, 20]]
    assert found.masks is not None
    full = found.masks.full()
    assert full.sum(dim=0).max() == 1
    assert full[0].sum() == 40
    assert (image[:, full[2]] == 2).all() and (image[:, ~full[2]] == 1).all()


def test_boxes_of_uncovered_objects_stay_as_annotated() -> None:
    first = scene((20, 30), 1, (2, 2, 12, 12))
    loose = Detections(first[1].boxes + 0.25, first[1].scores, first[1].labels, first[1].masks)
    _, found = paste_all((first[0], loose), scene((20, 30), 2, (20, 0, 25, 5)))
    assert found.boxes[0].tolist() == [2.25, 2.25, 12.25, 12.25]


def test_what_is_left_beside_its_box_has_a_box_of_its_own() -> None:
    first = scene((20, 30), 1, (2, 2, 14, 12))
    narrow = torch.tensor([[2.0, 2, 10, 12]])
    loose = Detections(narrow, first[1].scores, first[1].labels, first[1].masks)
    _, found = paste_all((first[0], loose), scene((20, 30), 2, (0, 0, 12, 20)))
    assert found.boxes.tolist() == [[12, 2, 14, 12], [0, 0, 12, 20]]


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (12, 12), (50, 50)])
def test_images_of_other_sizes_share_a_corner(size: tuple[int, int]) -> None:
    other = scene(size, 2, (1, 1, 9, 9), (0, 0, size[1], size[0]))
    image, found = paste_all(scene((20, 30), 1), other)
    assert image.shape == (3, 20, 30)
    assert found.masks is not None and found.masks.size == (20, 30)
    assert (found.boxes[:, 2] <= 30).all() and (found.boxes[:, 3] <= 20).all()
    covered = found.masks.full().any(dim=0)
    assert ((image[0] == 2) == covered).all()


def test_sometimes_nothing_is_pasted_and_nothing_may_be_there() -> None:
    first, second = scene((8, 8), 1, (1, 1, 4, 4)), scene((8, 8), 2, (0, 0, 8, 8))
    counts = set()
    for number in range(30):
        torch.manual_seed(number)
        image, found = paste_objects(*first, *second)
        counts.add(tuple(found.labels.tolist()))
        assert (first[0] == 1).all()
    assert counts == {(1,), (2,)}
    image, found = paste_objects(*scene((8, 8), 1), *scene((8, 8), 2))
    assert len(found) == 0 and (image == 1).all()


def test_objects_without_masks_are_refused() -> None:
    image, found = scene((8, 8), 1, (1, 1, 4, 4))
    bare = Detections(found.boxes, found.scores, found.labels)
    with pytest.raises(ValueError, match="needs objects with masks"):
        paste_objects(image, bare, image, found)
