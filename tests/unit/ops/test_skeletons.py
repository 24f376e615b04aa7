"""What COCO files say of keypoints is read, or refused in one sentence."""

from typing import Any

import numpy as np
import pytest

from ziggurat.keypoints import COCO_PERSON, Skeleton
from ziggurat.ops.skeletons import (
    COCO_SIGMAS,
    DEFAULT_SIGMA,
    read_points,
    read_sigmas,
    read_skeleton,
)


def category(**entries: Any) -> dict[str, Any]:
    return {"id": 1, "name": "face", "keypoints": ["nose", "R eye", "l_ear", "L eye"], **entries}


def test_names_edges_and_pairs_are_read() -> None:
    skeleton = read_skeleton([{"name": "tree"}, category(skeleton=[[1, 2], [4, 1]])], None)
    assert skeleton == Skeleton(
        ("nose", "R eye", "l_ear", "L eye"), ((0, 1), (3, 0)), pairs=((3, 1),)
    )


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["left_hip", "right_hip"], ((0, 1),)),
        (["hip.R", "hip.L"], ((1, 0),)),
        (["RightHip", "LeftHip"], ()),  # no words of their own
        (["bleft", "bright"], ()),
        (["left_hip", "tail"], ()),
    ],
)
def test_sides_are_known_by_their_names(
    names: list[str], pairs: tuple[tuple[int, int], ...]
) -> None:
    assert read_skeleton([category(keypoints=names)], None).pairs == pairs


def test_pairs_that_are_given_count() -> None:
    given = category(flip_pairs=[[1, 3]])
    assert read_skeleton([given], None).pairs == ((0, 2),)
    assert read_skeleton([category(flip_pairs=[])], None).pairs == ()


def test_seventeen_points_without_names_are_those_of_coco() -> None:
    assert read_skeleton([{"name": "person"}], 51) is COCO_PERSON
    with pytest.raises(ValueError, match="none of its categories names keypoints"):
        read_skeleton([{"name": "person"}], 12)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"keypoints": "nose"}, "expected a list of different names"),
        ({"keypoints": ["a", "a"]}, "expected a list of different names"),
        ({"keypoints": ["a", 3]}, "expected a list of different names"),
        ({"skeleton": [[0, 1]]}, "numbers of its keypoints, 1 to 4"),
        ({"skeleton": [[1, 5]]}, "has the skeleton"),
        ({"skeleton": [[1]]}, "expected a list of pairs"),
        ({"skeleton": {"a": 1}}, "expected a list of pairs"),
        ({"flip_pairs": [[1, 2.0]]}, "has the flip_pairs"),
        ({"flip_pairs": [[1, 2], [2, 3]]}, "name a point twice"),
        ({"flip_pairs": [[1, 1]]}, "name a point twice"),
    ],
)
def test_wrong_categories_are_refused(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_skeleton([category(**entries)], None)


def test_all_categories_have_the_same_points() -> None:
    with pytest.raises(ValueError, match="'face' and 'dog' have different keypoints"):
        read_skeleton([category(), category(name="dog", keypoints=["nose"])], None)


def test_sigmas() -> None:
    skeleton = read_skeleton([category()], None)
    assert read_sigmas([category()], skeleton) == (DEFAULT_SIGMA,) * 4
    assert read_sigmas([{"name": "person"}], COCO_PERSON) == COCO_SIGMAS
    assert read_sigmas([category(sigmas=[0.1, 1, 0.2, 0.3])], skeleton) == (0.1, 1.0, 0.2, 0.3)


@pytest.mark.parametrize("sigmas", [0.1, [0.1], [0.1, 0, 0.1, 0.1], [0.1, "a", 0.1, 0.1], None])
def test_wrong_sigmas_are_refused(sigmas: object) -> None:
    skeleton = read_skeleton([category()], None)
    with pytest.raises(ValueError, match="expected 4 numbers above 0"):
        read_sigmas([category(sigmas=sigmas)], skeleton)


def test_different_sigmas_are_refused() -> None:
    skeleton = read_skeleton([category()], None)
    with pytest.raises(ValueError, match="different sigmas"):
        read_sigmas([category(sigmas=[0.1] * 4), category(sigmas=[0.2] * 4)], skeleton)


def test_points() -> None:
    assert read_points(None, 2).tolist() == [[0, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(read_points([1, 2.5, 2, 0, 0, 0], 2), [[1, 2.5, 2], [0, 0, 0]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 2], "are 3 numbers; expected 6"),
        ([1, 2, 2, 3, 4, 3], "keypoint 2 has the visibility 3"),
        ([1, 2, -1, 3, 4, 2], "keypoint 1 has the visibility -1"),
        ([1, 2, 0.5, 3, 4, 2], "keypoint 1 has the visibility 0.5"),
        ([1, float("nan"), 2, 3, 4, 2], "not a list of finite numbers"),
        ([1, "2", 2, 3, 4, 2], "not a list of finite numbers"),
        ([1, True, 2, 3, 4, 2], "not a list of finite numbers"),
        ({"x": 1}, "not a list of finite numbers"),
    ],
)
def test_wrong_points_are_refused(values: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_points(values, 2)
