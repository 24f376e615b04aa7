"""Keypoints go with their objects, and change sides in a mirror."""

import torch

from ziggurat.keypoints import COCO_PERSON, Keypoints, Skeleton, plain_skeleton
from ziggurat.types import Detections

FACE = Skeleton(("left_eye", "right_eye", "nose"), ((0, 2), (1, 2)), ((0, 1),))
POINTS = torch.tensor(
    [
        [[10.0, 5.0, 2.0], [20.0, 6.0, 1.0], [15.0, 9.0, 2.0]],
        [[1.0, 2.0, 0.0], [3.0, 4.0, 2.0], [99.0, 4.0, 2.0]],
    ]
)


def faces() -> Detections:
    boxes = torch.tensor([[8.0, 4.0, 22.0, 12.0], [0.0, 0.0, 5.0, 5.0]])
    labels = torch.tensor([1, 0])
    return Detections(boxes, torch.tensor([0.9, 0.4]), labels, keypoints=Keypoints(POINTS, FACE))


def test_objects_are_kept_with_their_points() -> None:
    found = faces()
    for kept in (found.above(0.5), found.select(torch.tensor([0])), found.to("cpu").above(0.5)):
        assert len(kept) == 1
        assert kept.keypoints is not None
        assert len(kept.keypoints) == 1
        assert torch.equal(kept.keypoints.points, POINTS[:1])
        assert kept.keypoints.skeleton == FACE
    turned = found.select(torch.tensor([1, 0])).keypoints
    assert turned is not None
    assert torch.equal(turned.points, POINTS.flip(0))


def test_boxes_alone_have_no_points() -> None:
    found = Detections(torch.zeros(2, 4), torch.ones(2), torch.zeros(2, dtype=torch.int64))
    assert found.select(torch.tensor([True, False])).keypoints is None


def test_a_mirror_exchanges_left_and_right() -> None:
    flipped = Keypoints(POINTS, FACE).flip(width=30)
    assert flipped.points[0].tolist() == [[10, 6, 1], [20, 5, 2], [15, 9, 2]]
    assert torch.equal(flipped.flip(width=30).points, POINTS)


def test_points_are_moved_scaled_and_forgotten_outside() -> None:
    points = Keypoints(POINTS, FACE)
    assert points.move(2, -1).points[0, 0].tolist() == [12, 4, 2]
    assert points.scale((2.0, 3.0)).points[0, 1].tolist() == [40, 18, 1]
    cut = points.crop((10, 50)).points
    assert torch.equal(cut[0], POINTS[0])
    assert cut[1, 2].tolist() == [0, 0, 0]
    assert cut[1, 1].tolist() == [3, 4, 2]


def test_a_person_is_symmetric() -> None:
    assert len(COCO_PERSON) == 17
    for left, right in COCO_PERSON.pairs:
        assert COCO_PERSON.names[left].replace("left", "right") == COCO_PERSON.names[right]
    assert COCO_PERSON.mirrored[:5] == [0, 2, 1, 4, 3]
    assert len(COCO_PERSON.edges) == 19
    sides = COCO_PERSON.mirrored
    edges = {frozenset(edge) for edge in COCO_PERSON.edges}
    assert {frozenset(sides[point] for point in edge) for edge in edges} == edges


def test_a_model_that_nobody_told_its_points_counts_them() -> None:
    assert plain_skeleton(17) is COCO_PERSON
    assert plain_skeleton(2) == Skeleton(("keypoint_0", "keypoint_1"))
