"""The data of a detection run: which pipeline each option makes, masks, other layouts, notes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ziggurat.config.data import DetectionData
from ziggurat.config.optimizer import OptimizerConfig
from ziggurat.config.tree import (
    DetectionRun,
    InstanceSegmentationRun,
    ModelConfig,
    TrainerConfig,
)
from ziggurat.data.coco import CocoDetection
from ziggurat.data.detection import CropFirst, DetectionTransform, ScaleJitter
from ziggurat.data.resize import resize_exact, resize_fast
from ziggurat.engine.data import build_data
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import FitInside
from ziggurat.types import Detections, Sample

SQUARE = [2, 3, 30, 3, 30, 20, 2, 20]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        annotations: list[dict[str, Any]] = []
        for number in (1, 2):
            Image.new("RGB", (60, 40)).save(tmp_path / split / f"{number}.png")
            for is_crowd in (0, 1):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "bbox": [2, 3, 28, 17],
                        "area": 476,
                        "iscrowd": is_crowd,
                        "segmentation": [SQUARE],
                    }
                )
        content = {
            "images": [
                {"id": n, "file_name": f"{n}.png", "width": 60, "height": 40} for n in (1, 2)
            ],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "cat"}],
        }
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return tmp_path


def run(data: DetectionData, *, with_masks: bool = False) -> DetectionRun | InstanceSegmentationRun:
    kind = InstanceSegmentationRun if with_masks else DetectionRun
    return kind(
        model=ModelConfig(name="retinanet_p2t_tiny"),
        data=data,
        optimizer=OptimizerConfig(lr=1e-4),
        trainer=TrainerConfig(max_epochs=1),
    )


def transforms(data: DetectionData) -> tuple[DetectionTransform, DetectionTransform]:
    built = build_data(run(data))
    assert isinstance(built.train, CocoDetection) and isinstance(built.val, CocoDetection)
    train, val = built.train.transform, built.val.transform
    assert isinstance(train, DetectionTransform) and isinstance(val, DetectionTransform)
    return train, val


def test_1x_is_the_default(root: Path) -> None:
    train, val = transforms(DetectionData(str(root)))
    assert (train.scales, train.flip, train.preprocessing.long_side) == ((800,), 0.5, 1333)
    assert train.crop_first is None and train.max_side is None and train.jitter is None
    assert train.resize is resize_exact
    assert (val.scales, val.flip, val.resize) == ((800,), 0.0, resize_exact)


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(name="retinanet_resnet50_caffe"),  # no published name
        ModelConfig(name="retinanet", backbone="resnet50_caffe"),
    ],
)
def test_pixels_are_those_of_the_backbone(root: Path, model: ModelConfig) -> None:
    preprocessing = build_data(replace(run(DetectionData(str(root))), model=model)).preprocessing
    assert isinstance(preprocessing, FitInside) and preprocessing.channel_order == "bgr"


def test_options_of_training_do_not_reach_evaluation(root: Path) -> None:
    data = DetectionData(
        str(root),
        train_short_sides=(480, 512),
        crop_first=0.5,
        max_train_side=1024,
        fast_train_resize=True,
    )
    train, val = transforms(data)
    assert train.scales == (480, 512)
    assert train.crop_first == CropFirst(0.5, (400, 500, 600), (384, 600))
    assert train.max_side == 1024 and train.resize is resize_fast
    assert val.crop_first is None and val.max_side is None and val.resize is resize_exact
    jittered, val = transforms(DetectionData(str(root), scale_jitter=(0.1, 2.0)))
    assert jittered.jitter == ScaleJitter((0.1, 2.0), 1024) and val.jitter is None


def test_masks_are_read_where_they_are_learned(root: Path) -> None:
    data = DetectionData(str(root), short_side=40, long_side=60, flip=0.0, copy_paste=1.0)
    built = build_data(run(data, with_masks=True))
    assert isinstance(built.train, CocoDetection) and built.train.copy_paste == 1
    for dataset in (built.train, built.val):
        item = dataset[0]
        assert isinstance(item, Sample) and isinstance(item.target, Detections)
        assert item.target.masks is not None
        assert item.target.masks.size == tuple(item.image.shape[1:])
    assert "masks" in built.new_metric(("cat",)).kinds  # type: ignore[attr-defined]
    boxes = build_data(run(replace(data, copy_paste=0.0)))
    item = boxes.train[0]
    assert isinstance(item, Sample) and isinstance(item.target, Detections)
    assert item.target.masks is None


def test_what_an_evaluation_needs_is_missed_before_training(root: Path) -> None:
    path = root / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    data = DetectionData(str(root))
    del content["annotations"][1]["segmentation"]  # a crowd
    path.write_text(json.dumps(content))
    build_data(run(data, with_masks=True))
    content["annotations"][0] |= {"segmentation": [], "area": 0}  # left out as a target
    path.write_text(json.dumps(content))
    with pytest.raises(ZigguratError, match="annotation 1 of image 1 has no mask that can be read"):
        build_data(run(data, with_masks=True))


def test_pasting_without_masks_is_refused(root: Path) -> None:
    with pytest.raises(ZigguratError, match=r"copy_paste = 0.5 needs masks, .* set it to 0 or"):
        build_data(run(DetectionData(str(root), copy_paste=0.5)))


def test_what_was_left_out_is_said(root: Path) -> None:
    notes = build_data(run(DetectionData(str(root)))).notes
    # Crowds of the validation data count by the rules of the metric.
    assert notes == (f"{root}/annotations/instances_train.json: left out as no target: 2 x crowd",)


def change(root: Path, split: str, edit: Callable[[dict[str, Any]], object]) -> None:
    file = root / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def test_true_objects_that_cannot_be_found_are_said_of_validation(root: Path) -> None:
    change(root, "val", lambda c: c["annotations"][0].update(bbox=[2, 3, -4, 5]))
    _, note = build_data(run(DetectionData(str(root)))).notes
    assert note.startswith(f"{root}/annotations/instances_val.json: counted as pycocotools does")
    assert "cannot be found: 1 x box of negative size; " in note


def add_useless_images(content: dict[str, Any]) -> None:
    """An image without objects, an image with a crowd alone, and a small one."""
    crowd = content["annotations"][1]
    for number, side in ((3, 60), (4, 60), (5, 31)):
        content["images"].append({"id": number, "file_name": "1.png", "width": side, "height": 40})
    content["annotations"] += [
        crowd | {"id": 11, "image_id": 4},
        crowd | {"id": 12, "image_id": 5, "iscrowd": 0},
    ]


def test_images_without_objects_are_counted_or_kept(root: Path) -> None:
    change(root, "train", add_useless_images)
    data = DetectionData(str(root), short_side=40, long_side=60)
    left_out = build_data(run(data))
    assert len(left_out.train) == 2
    assert [note.partition(": ")[2] for note in left_out.notes[1:]] == [
        "2 of 5 images have no objects and are not trained on; data.keep_empty=true trains on them",
        "1 of 5 images have a side below 32 pixels and are not trained on",
    ]
    kept = build_data(run(replace(data, keep_empty=True)))
    assert len(kept.train) == 4
    assert [note.partition(": ")[2] for note in kept.notes[1:]] == [
        "1 of 5 images have a side below 32 pixels and are not trained on"
    ]
    item = kept.train[2]
    assert isinstance(item, Sample) and isinstance(item.target, Detections)
    assert len(item.target) == 0


def test_another_layout_is_opened_by_its_root(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        Image.new("RGB", (60, 40)).save(tmp_path / "images" / split / "a.png")
        (tmp_path / "labels" / split / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    built = build_data(run(DetectionData(str(tmp_path))))
    assert built.classes == ("cat", "dog") and built.notes == ()
    assert isinstance(built.val, CocoDetection)
    assert built.val.target(0).boxes.tolist() == [[24, 12, 36, 28]]
    built.new_metric(built.classes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_first": 1.5}, "data.crop_first must be between 0 and 1"),
        ({"crop_first_short_sides": ()}, "data.crop_first_short_sides must be one or more sides"),
        ({"crop_first_short_sides": (0,)}, "data.crop_first_short_sides must be"),
        ({"crop_first_sides": (600, 384)}, "data.crop_first_sides must be two sides"),
        ({"max_train_side": 0}, "data.max_train_side must be at least 1"),
        ({"scale_jitter": (0.0, 2.0)}, "data.scale_jitter must be null or two factors"),
        ({"scale_jitter": (2.0, 0.1)}, "data.scale_jitter must be null or two factors"),
        ({"jitter_side": 0}, "data.jitter_side must be at least 1"),
        ({"copy_paste": -0.1}, "data.copy_paste must be between 0 and 1"),
        ({"train_short_sides": ()}, "data.train_short_sides must be null or one or more"),
        (
            {"scale_jitter": (0.1, 2.0), "train_short_sides": (480,)},
            "data.train_short_sides must be left at its default where data.scale_jitter",
        ),
        ({"scale_jitter": (0.1, 2.0), "crop_first": 0.5}, "data.crop_first must be left at its"),
        ({"scale_jitter": (0.1, 2.0), "max_train_side": 9}, "data.max_train_side must be left"),
        ({"jitter_side": 512}, "data.jitter_side must be left at its default 1024 where"),
        ({"crop_first_short_sides": (400,)}, "data.crop_first_short_sides must be left at its"),
        ({"crop_first_sides": (384, 500)}, "data.crop_first_sides must be left at its default"),
    ],
)
def test_options_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        DetectionData("data", **changes)
