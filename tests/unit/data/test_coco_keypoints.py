"""Keypoints of COCO files: read for training, and every fault named by `ziggurat data check`."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from ziggurat.data.check import check_dataset
from ziggurat.data.coco import CocoDetection, find_coco
from ziggurat.data.detection_layouts import find_split
from ziggurat.data.preview import read_preview
from ziggurat.errors import ZigguratError
from ziggurat.keypoints import COCO_PERSON, Skeleton
from ziggurat.types import Detections

CONTENT: dict[str, Any] = {
    "images": [{"id": n, "file_name": f"{n}.png", "width": 60, "height": 40} for n in (1, 2, 3, 4)],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 7,
            "bbox": [5, 5, 30, 30],
            "area": 900,
            "iscrowd": 0,
            "keypoints": [10, 12, 2, 0, 0, 0, 30, 20.5, 1],
            "num_keypoints": 2,
        },
        {  # nothing labelled
            "id": 2,
            "image_id": 1,
            "category_id": 7,
            "bbox": [1, 1, 9, 9],
            "area": 81,
            "iscrowd": 0,
            "keypoints": [0] * 9,
            "num_keypoints": 0,
        },
        # without the entry at all
        {"id": 3, "image_id": 2, "category_id": 7, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0},
        {
            "id": 4,
            "image_id": 3,
            "category_id": 7,
            "bbox": [1, 1, 30, 30],
            "area": 900,
            "iscrowd": 1,
            "keypoints": [0] * 9,
            "num_keypoints": 0,
        },
    ],
    "categories": [
        {
            "id": 7,
            "name": "face",
            "keypoints": ["nose", "left_eye", "right_eye"],
            "skeleton": [[1, 2], [1, 3]],
        }
    ],
}
FACE = Skeleton(("nose", "left_eye", "right_eye"), ((0, 1), (0, 2)), ((1, 2),))
TRAIN = "annotations/person_keypoints_train.json"


def plain(image: Image.Image, target: Detections) -> tuple[Tensor, Detections]:
    return pil_to_tensor(image) / 255, target


def write(root: Path, content: object = CONTENT, name: str = TRAIN) -> Path:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "train").mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(content))
    for number in (1, 2, 3, 4):
        Image.new("RGB", (60, 40)).save(root / "train" / f"{number}.png")
    return root / name


def read(root: Path, *, keep_empty: bool = False) -> CocoDetection:
    return CocoDetection(
        root / TRAIN,
        root / "train",
        plain,
        train=True,
        keep_empty=keep_empty,
        with_keypoints=True,
    )


def test_points_are_read_with_their_objects(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = read(tmp_path)
    assert dataset.file.skeleton == FACE
    assert len(dataset) == 1  # images without a labelled point teach none
    keypoints = dataset.target(0).keypoints
    assert keypoints is not None
    assert keypoints.skeleton == FACE
    assert keypoints.points.dtype == torch.float32
    # A file counts pixels; here their centres are half a pixel further.
    assert keypoints.points[0, 0].tolist() == [10.5, 12.5, 2]
    assert keypoints.points[0, 2].tolist() == [30.5, 21, 1]
    assert not keypoints.points[0, 1, 2] and not keypoints.points[1, :, 2].any()


def test_evaluation_keeps_all_images(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = read(tmp_path, keep_empty=True)
    assert len(dataset) == 4
    for index in range(1, 4):
        keypoints = dataset.target(index).keypoints
        assert keypoints is not None
        assert not keypoints.points[..., 2].any()


def test_boxes_are_read_without_points(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = CocoDetection(
        tmp_path / TRAIN, tmp_path / "train", plain, train=True, keep_empty=False
    )
    assert len(dataset) == 2
    assert dataset.target(0).keypoints is None
    assert dataset.file.skeleton is None


def test_names_of_coco_are_the_default(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["categories"] = [{"id": 7, "name": "person"}]
    for entry in content["annotations"]:
        entry["keypoints"] = [20, 20, 2] * 17
    write(tmp_path, content)
    assert read(tmp_path).file.skeleton == COCO_PERSON


def test_the_file_with_keypoints_goes_first_for_keypoints_only(tmp_path: Path) -> None:
    write(tmp_path)
    assert find_coco(tmp_path, "train")[0].name == "person_keypoints_train.json"
    write(tmp_path, name="annotations/instances_train.json")
    assert find_split(tmp_path, "train")[0] == tmp_path / "annotations/instances_train.json"
    assert find_split(tmp_path, "train", with_keypoints=True)[0] == tmp_path / TRAIN
    (tmp_path / TRAIN).unlink()
    found, _ = find_split(tmp_path, "train", with_keypoints=True)
    assert found == tmp_path / "annotations/instances_train.json"


def no_names(content: dict[str, Any]) -> None:
    del content["categories"][0]["keypoints"]


def wrong_edge(content: dict[str, Any]) -> None:
    content["categories"][0]["skeleton"] = [[1, 4]]


def wrong_sigmas(content: dict[str, Any]) -> None:
    content["categories"][0]["sigmas"] = [1]


def too_short(content: dict[str, Any]) -> None:
    content["annotations"][0]["keypoints"] = [10, 12, 2]


def no_visibility(content: dict[str, Any]) -> None:
    content["annotations"][0]["keypoints"][5] = 3


def outside(content: dict[str, Any]) -> None:
    content["annotations"][0]["keypoints"][:2] = [61.5, 12]


def miscounted(content: dict[str, Any]) -> None:
    content["annotations"][0]["num_keypoints"] = 3


def not_numbers(content: dict[str, Any]) -> None:
    content["annotations"][0]["keypoints"] = ["a"] * 9


FAULTS = [
    (no_names, "none of its categories names keypoints"),
    (wrong_edge, "has the skeleton [[1, 4]]; expected a list of pairs of numbers"),
    (too_short, "its keypoints are 3 numbers; expected 9: x, y and visibility of 3 points"),
    (no_visibility, "keypoint 2 has the visibility 3; expected 0 (not labelled)"),
    (not_numbers, "its keypoints are not a list of finite numbers"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_wrong_files_are_refused_in_one_sentence(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    content = copy.deepcopy(CONTENT)
    change(content)
    write(tmp_path, content)
    with pytest.raises(ZigguratError) as raised:
        read(tmp_path)
    assert message in str(raised.value)
    assert "person_keypoints_train.json" in str(raised.value)


def test_training_needs_a_labelled_point(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["keypoints"] = [0] * 9
    write(tmp_path, content)
    with pytest.raises(ZigguratError, match="none with a box .*, a labelled keypoint and sides"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *FAULTS,
        (wrong_sigmas, "expected 3 numbers above 0"),
        (outside, "the keypoint 'nose' is outside the image by 2.5 pixels: x 61.5, y 12"),
        (miscounted, "num_keypoints is 3, but 2 keypoints are labelled"),
    ],
)
def test_faults_are_named_with_their_annotation(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    content = copy.deepcopy(CONTENT)
    change(content)
    write(tmp_path, content)
    (fault,) = check_dataset(tmp_path).faults
    assert fault.file == TRAIN
    assert message in fault.reason
    if change not in (no_names, wrong_edge, wrong_sigmas):
        assert fault.reason.startswith("annotation 1 (image 1.png): ")


def test_a_faultless_file_is_counted_and_shown(tmp_path: Path) -> None:
    write(tmp_path)
    check = check_dataset(tmp_path)
    assert check.faults == ()
    assert [(split.name, split.per_class) for split in check.splits] == [("train", {"face": 4})]
    preview = read_preview(check.examples[0])
    assert preview.objects is not None and preview.objects.keypoints is not None
    assert preview.objects.keypoints.points[0, 0].tolist() == [10.5, 12.5, 2]
    assert preview.objects.keypoints.skeleton == FACE


def test_both_files_of_a_split_are_checked_and_images_once(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    outside(content)
    write(tmp_path, content)
    write(tmp_path, name="annotations/instances_train.json")
    seen: list[int] = []
    check = check_dataset(tmp_path, on_progress=seen.append)
    assert [split.name for split in check.splits] == ["train", "train, keypoints"]
    (fault,) = check.faults
    assert fault.file == TRAIN
    assert sum(seen) == 4
