"""LVIS: annotations of COCO's layout whose images have addresses in place of file names."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from ziggurat.data.check_coco import check_annotations
from ziggurat.data.coco import CocoDetection
from ziggurat.metrics.coco_truth import read_truth
from ziggurat.metrics.result_names import ResultNames
from ziggurat.ops.image_names import with_file_name
from ziggurat.types import Detections, Sample

NUM_CLASSES = 1203
NAMES = ("train2017/000000391895.jpg", "val2017/000000000139.jpg")


def content() -> dict[str, Any]:
    outline = [10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]
    return {
        "info": {"version": "v1"},
        "images": [
            {
                "id": int(Path(name).stem),
                "coco_url": f"http://images.cocodataset.org/{name}",
                "width": 60,
                "height": 40,
                "neg_category_ids": [4],
                "not_exhaustive_category_ids": [],
            }
            for name in NAMES
        ],
        "annotations": [
            {
                "id": number,
                "image_id": int(Path(NAMES[number % 2]).stem),
                "category_id": number,
                "bbox": [10.0, 5.0, 20.0, 20.0],
                "area": 400.0,
                "segmentation": [outline],
            }
            for number in range(1, NUM_CLASSES + 1)
        ],
        "categories": [
            {
                "id": number,
                "name": f"thing_{number}",
                "synset": f"thing.n.{number}",
                "frequency": "r",
            }
            for number in range(1, NUM_CLASSES + 1)
        ],
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "coco" / name).parent.mkdir(parents=True)
        Image.new("RGB", (60, 40), (90, 120, 40)).save(tmp_path / "coco" / name)
    path = tmp_path / "lvis_v1_train.json"
    path.write_text(json.dumps(content()))
    return path


def plain(image: Image.Image, target: Detections) -> tuple[Tensor, Detections]:
    return pil_to_tensor(image) / 255, target


def test_images_are_found_by_their_addresses(file: Path) -> None:
    data = CocoDetection(
        file, file.parent / "coco", plain, train=True, keep_empty=False, with_masks=True
    )
    assert tuple(data.file.file_names) == NAMES
    assert len(data) == 2 and len(data.classes) == NUM_CLASSES
    for index in range(2):
        item = data[index]
        assert isinstance(item, Sample) and isinstance(item.target, Detections)
        assert Path(item.info.path) == file.parent / "coco" / NAMES[index]
        assert item.target.masks is not None
    labels = torch.cat([data.target(index).labels for index in range(2)])
    assert labels.sort().values.tolist() == list(range(NUM_CLASSES))


def test_the_check_finds_no_fault(file: Path) -> None:
    check = check_annotations(file.parent, [(file, file.parent / "coco")])
    assert check.findings == ()
    (split,) = check.splits
    assert (split.num_images, len(split.per_class)) == (2, NUM_CLASSES)


def test_an_evaluation_knows_the_names(file: Path) -> None:
    truth = read_truth(file, with_masks=True)
    assert [image["file_name"] for image in truth.images] == list(NAMES)
    found = ResultNames(truth).image_id("entry 1", {"file_name": f"coco/{NAMES[1]}"})
    assert found == 139


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ({"coco_url": "http://images.cocodataset.org/train2017/1.jpg"}, "train2017/1.jpg"),
        ({"coco_url": "http://other.org/1.jpg", "file_name": "a/b.jpg"}, "a/b.jpg"),
        ({"coco_url": "train2017/1.jpg"}, "train2017/1.jpg"),
        ({"coco_url": "http://other.org/1.jpg", "file_name": 5}, 5),
        ({"coco_url": ""}, None),
        ({"coco_url": 7}, None),
        ({}, None),
    ],
)
def test_names(entry: dict[str, object], name: object) -> None:
    assert with_file_name(entry).get("file_name") == name
