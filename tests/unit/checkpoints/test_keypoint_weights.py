"""Weights of a keypoint detector carry what its points are; others are as they were."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ziggurat import zoo
from ziggurat.checkpoints.native import load_weights, save_weights
from ziggurat.errors import ZigguratError
from ziggurat.inference.object_data import open_objects
from ziggurat.keypoints import Skeleton
from ziggurat.models.detector import Detector
from ziggurat.preprocessing import FitInside

FACE = Skeleton(("nose", "left_eye", "right_eye"), ((0, 1), (0, 2)), ((1, 2),))


def face_detector() -> Detector:
    torch.manual_seed(0)
    model = zoo.create_model(
        "keypoint_rcnn", backbone="topformer_tiny", num_keypoints=3, head_channels=2
    )
    assert isinstance(model, Detector)
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = face_detector()
    model.skeleton = FACE
    path = tmp_path_factory.mktemp("weights") / "face.safetensors"
    save_weights(model, path)
    return path


def rewritten(path: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["ziggurat"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(values)
    save_file(tensors, folder / "a.safetensors", metadata={"ziggurat": json.dumps(values)})
    return folder / "a.safetensors"


def test_points_come_back_with_the_weights(weights: Path) -> None:
    model = load_weights(weights)
    assert isinstance(model, Detector)
    assert model.skeleton == FACE
    assert model.identity.num_keypoints == 3


def test_other_models_have_no_skeleton(tmp_path: Path) -> None:
    model = zoo.create_model("faster_rcnn", backbone="topformer_tiny", head_channels=2)
    assert isinstance(model, Detector)
    assert model.skeleton is None
    save_weights(model, tmp_path / "boxes.safetensors")
    with safe_open(tmp_path / "boxes.safetensors", framework="pt") as file:
        values = json.loads(file.metadata()["ziggurat"])
    assert "skeleton" not in values
    del values["identity"]["num_keypoints"]  # as in files from before there were keypoints
    old = rewritten(tmp_path / "boxes.safetensors", tmp_path, lambda new: new.update(values))
    assert load_weights(old).identity == model.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.pop("skeleton"), "of keypoints and their skeleton it has only one"),
        (lambda values: values.update(skeleton=3), "its skeleton is no object"),
        (lambda values: values["skeleton"].pop("edges"), "its skeleton lacks.* edges"),
        (lambda values: values["skeleton"].update(names=["a"]), "its skeleton has no 3 names"),
        (lambda values: values["skeleton"].update(names=[1, 2, 3]), "its skeleton has no 3 names"),
        (lambda values: values["skeleton"].update(edges=[[0, 3]]), "edges of its skeleton"),
        (lambda values: values["skeleton"].update(pairs=[[0]]), "pairs of its skeleton"),
        (
            lambda values: values["identity"].update(num_keypoints=None),
            "of keypoints and their skeleton it has only one",
        ),
        (lambda values: values["identity"].update(num_keypoints=0), "num_keypoints of its model"),
        (lambda values: values["identity"].update(num_keypoints=4), "its skeleton has no 4 names"),
        (lambda values: values["identity"].update(system="faster_rcnn"), "does detection with"),
    ],
)
def test_damaged_descriptions_are_refused(
    change: Callable[[dict[str, Any]], object], message: str, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(ZigguratError, match=message):
        load_weights(rewritten(weights, tmp_path, change))


def test_a_skeleton_of_other_points_is_refused() -> None:
    with torch.device("meta"):
        model = face_detector()
        boxes = zoo.create_model("faster_rcnn", backbone="topformer_tiny", head_channels=2)
    assert isinstance(boxes, Detector)
    with pytest.raises(ZigguratError, match="finds 3 keypoints, got a skeleton of 1"):
        model.skeleton = Skeleton(("nose",))
    with pytest.raises(ZigguratError, match="finds no keypoints, got a skeleton of 3"):
        boxes.skeleton = FACE


def test_options_that_do_not_belong_are_refused() -> None:
    with pytest.raises(ZigguratError, match="has no num_keypoints; leave it out"):
        zoo.create_model("mask_rcnn", backbone="resnet50", num_keypoints=3)
    with pytest.raises(ZigguratError, match="needs num_keypoints >= 1, got 0"):
        zoo.create_model("keypoint_rcnn", backbone="resnet50", num_keypoints=0)


def test_data_of_other_points_are_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = face_detector()
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 40}],
        "annotations": [],
        "categories": [{"id": 1, "name": "face", "keypoints": ["nose", "mouth", "chin"]}],
    }
    file = tmp_path / "person_keypoints_val.json"
    file.write_text(json.dumps(content))
    # A model that nobody told its points takes any that are as many.
    _, metric = open_objects(model, FitInside(), file, tmp_path)
    assert metric.primary == "keypoint_AP"
    model.skeleton = FACE
    with pytest.raises(ZigguratError, match="finds the keypoints nose, left_eye.* has nose, mouth"):
        open_objects(model, FitInside(), file, tmp_path)
