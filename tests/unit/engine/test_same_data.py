"""What a run that goes on says of data that have changed."""

import json
from pathlib import Path

import pytest
from PIL import Image

from ziggurat.config.data import ClassificationData, DetectionData
from ziggurat.config.optimizer import OptimizerConfig
from ziggurat.config.tree import ClassificationRun, KeypointDetectionRun, ModelConfig
from ziggurat.engine.data import RunData, build_data
from ziggurat.engine.same_data import check_same_data, describe_data
from ziggurat.errors import ZigguratError


def images_of(root: Path, *classes: str) -> RunData:
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40)).save(root / split / name / "1.png")
    config = ClassificationRun(
        model=ModelConfig(name="p2t_tiny"),
        data=ClassificationData(str(root)),
        optimizer=OptimizerConfig(lr=1e-3),
    )
    return build_data(config)


def objects_of(root: Path, names: list[str], keypoints: list[str]) -> RunData:
    categories = [
        {"id": number, "name": name, "keypoints": keypoints, "skeleton": []}
        for number, name in enumerate(names, start=1)
    ]
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        (root / split).mkdir(exist_ok=True)
        Image.new("RGB", (60, 40)).save(root / split / "1.png")
        labels = {"image_id": 1, "category_id": 1, "bbox": [2, 3, 28, 17], "area": 476}
        points = {"keypoints": [3, 4, 2, 9, 9, 2], "num_keypoints": 2}
        content = {
            "images": [{"id": 1, "file_name": "1.png", "width": 60, "height": 40}],
            "annotations": [{"id": 1, "iscrowd": 0, **labels, **points}],
            "categories": categories,
        }
        file = root / "annotations" / f"person_keypoints_{split}.json"
        file.write_text(json.dumps(content))
    config = KeypointDetectionRun(
        model=ModelConfig(name="keypoint_rcnn_resnet50"),
        data=DetectionData(str(root)),
        optimizer=OptimizerConfig(lr=1e-3),
    )
    return build_data(config)


def refusal(before: RunData, now: RunData) -> str:
    with pytest.raises(ZigguratError) as caught:
        check_same_data(describe_data(before), now, Path("run"), "root")
    message = str(caught.value)
    assert "\n" not in message and "--model.weights run/last.safetensors" in message
    return message


def test_a_class_with_another_name_and_one_more(tmp_path: Path) -> None:
    before = images_of(tmp_path / "a", "cat", "dog")
    message = refusal(before, images_of(tmp_path / "b", "dog", "wolf"))
    assert "the classes of root have changed" in message
    assert "('cat' is gone, 'wolf' is new)" in message
    assert "('owl' is new)" in refusal(before, images_of(tmp_path / "c", "cat", "dog", "owl"))


def test_another_number_of_images_and_another_place(tmp_path: Path) -> None:
    before = images_of(tmp_path / "a", "cat", "dog")
    now = images_of(tmp_path / "b", "cat", "dog")
    check_same_data(describe_data(before), now, Path("run"), "root")
    Image.new("RGB", (40, 40)).save(tmp_path / "b/train/cat/2.png")
    message = refusal(before, images_of(tmp_path / "b", "cat", "dog"))
    assert "the training images of root have changed" in message and "from 2 to 3" in message


def test_names_and_keypoints_in_another_order(tmp_path: Path) -> None:
    before = objects_of(tmp_path / "a", ["cat", "dog"], ["nose", "tail"])
    message = refusal(before, objects_of(tmp_path / "b", ["dog", "cat"], ["nose", "tail"]))
    assert "another order: number 0 was 'cat' and is 'dog'" in message
    message = refusal(before, objects_of(tmp_path / "c", ["cat", "dog"], ["tail", "nose"]))
    assert "the keypoints of root" in message and "number 0 was 'nose' and is 'tail'" in message
