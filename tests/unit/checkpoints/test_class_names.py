"""Classes of official files: their own names, else those of the published data."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ziggurat.checkpoints.class_names import published_classes, stored_classes
from ziggurat.checkpoints.native import load_weights, save_weights
from ziggurat.checkpoints.official import load_official
from ziggurat.class_lists import class_list
from ziggurat.models.classifier import Classifier
from ziggurat.models.detector import Detector
from ziggurat.zoo import create_model

Weights = dict[str, Tensor]
NAMES = ["ant", "bee", "cow"]


@pytest.mark.parametrize("kind", [list, tuple])
def test_the_names_of_a_file(
    kind: type, detector: Detector, detector_file: Weights, tmp_path: Path
) -> None:
    file = {"meta": {"CLASSES": kind(NAMES), "PALETTE": [[0, 0, 0]]}, "state_dict": detector_file}
    path = tmp_path / "official.pth"
    torch.save(file, path)
    load_official(detector, path)
    assert detector.classes == tuple(NAMES)
    save_weights(detector, tmp_path / "ours.safetensors")
    assert load_weights(tmp_path / "ours.safetensors").classes == tuple(NAMES)


def test_names_of_newer_files(detector: Detector, detector_file: Weights) -> None:
    meta = {"dataset_meta": {"classes": NAMES}, "epoch": 12}
    load_official(detector, {"meta": meta, "state_dict": detector_file})
    assert detector.classes == tuple(NAMES)


def test_mmsegmentation_calls_two_classes_of_ade20k_otherwise() -> None:
    own = class_list("ade20k").classes
    theirs = {"bed": "bed ", "television": "television receiver"}
    names = [theirs.get(name, name) for name in own]
    assert stored_classes({"CLASSES": names}) == own
    assert stored_classes({"dataset_meta": {"classes": names}}) == own
    # Of other data, names mean what they say.
    others = ("television receiver", "bed ")
    assert stored_classes({"CLASSES": others}) == ("television receiver", "bed")


@pytest.mark.parametrize(
    "meta",
    [None, "text", {}, {"CLASSES": None}, {"CLASSES": "ant"}, {"CLASSES": [1, 2, 3]}],
)
def test_a_file_without_names(meta: object, detector: Detector, detector_file: Weights) -> None:
    assert stored_classes(meta) is None
    load_official(detector, {"meta": meta, "state_dict": detector_file})
    assert detector.classes == ("class_0", "class_1", "class_2")


def test_names_that_the_model_has_stay(detector: Detector, detector_file: Weights) -> None:
    detector.classes = ("x", "y", "z")
    load_official(detector, {"meta": {"CLASSES": NAMES}, "state_dict": detector_file})
    assert detector.classes == ("x", "y", "z")


def test_more_names_than_classes_are_those_of_other_data(
    detector: Detector, detector_file: Weights
) -> None:
    load_official(detector, {"meta": {"CLASSES": [*NAMES, "dog"]}, "state_dict": detector_file})
    assert detector.classes == ("class_0", "class_1", "class_2")


def test_a_classifier_keeps_its_numbers(classifier: Classifier, imagenet_file: Weights) -> None:
    meta = {"CLASSES": ["a", "b", "c", "d", "e"]}
    load_official(classifier, {"meta": meta, "state_dict": imagenet_file})
    assert classifier.classes == tuple(f"class_{number}" for number in range(5))


def test_names_of_the_published_data() -> None:
    def names(model: str) -> tuple[str, ...] | None:
        return published_classes(create_model(model).identity)

    with torch.device("meta"):
        objects = names("retinanet_p2t_tiny")
        assert objects is not None and objects[:2] == ("person", "bicycle")
        assert len(objects) == 80 and objects[-1] == "toothbrush"
        assert names("mask_rcnn_p2t_tiny") == objects
        assert names("retinanet_topformer_tiny") is None  # which nobody published
        assert names("keypoint_rcnn_resnet50") == ("person",)
        assert names("semantic_fpn_p2t_tiny") == class_list("ade20k").classes
        cityscapes = class_list("cityscapes").classes
        assert names("topformer_seg_tiny_cityscapes") == cityscapes
        folders = names("p2t_tiny")
        assert folders is not None and folders[:2] == ("n01440764", "n01443537")
        assert len(folders) == 1000
