"""Ids of images and categories that hotcoco cannot read, or that a float64 does not hold."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from ziggurat.errors import ZigguratError
from ziggurat.keypoints import Keypoints, Skeleton
from ziggurat.metrics.coco import CocoMetric, count_report, to_coco_json
from ziggurat.metrics.coco_results import read_results
from ziggurat.types import Batch, Detections, ImageInfo, ObjectMasks

IMAGE_IDS = (2**64 + 9, -3, 10**40, 2**53 + 1, 5)
SIZE = (10, 20)
FACE = Skeleton(("nose", "left_eye", "right_eye"))


def left_of(place: int) -> int:
    """Column of an object's left side, another one in each image."""
    return 2 + 2 * place


def truth(image_ids: tuple[int, ...] = IMAGE_IDS, category: int = 4) -> dict[str, Any]:
    """An object an image, with a mask and keypoints."""
    return {
        "images": [{"id": one, "height": SIZE[0], "width": SIZE[1]} for one in image_ids],
        "annotations": [
            {
                "id": place,
                "image_id": image_id,
                "category_id": category,
                "bbox": [x, 2, 6, 6],
                "segmentation": [[x, 2, x + 6, 2, x + 6, 8, x, 8]],
                "keypoints": [x, 2, 2, x + 5, 3, 1, x, 7, 2],
            }
            for place, image_id in enumerate(image_ids)
            for x in [left_of(place)]
        ],
        "categories": [
            {"id": category, "name": "face", "keypoints": list(FACE.names)},
            {"id": 11, "name": "ghost", "keypoints": list(FACE.names)},
        ],
    }


def perfect(place: int) -> Detections:
    x = left_of(place)
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[:, 2:8, x : x + 6] = True
    points = torch.tensor([[[x, 2, 0.9], [x + 5, 3, 0.9], [x, 7, 0.9]]])
    return Detections(
        boxes=torch.tensor([[x, 2.0, x + 6.0, 8.0]]),
        scores=torch.tensor([0.5]),
        labels=torch.tensor([0]),
        masks=ObjectMasks.from_full(mask),
        keypoints=Keypoints(points + torch.tensor([0.5, 0.5, 0.0]), FACE),
    )


def measure(image_ids: tuple[int, ...] = IMAGE_IDS, category: int = 4) -> CocoMetric:
    metric = CocoMetric(
        truth(image_ids, category),
        (category, 11),
        ("face", "ghost"),
        with_masks=True,
        with_keypoints=True,
    )
    for place, image_id in enumerate(image_ids):
        info = ImageInfo(image_id, "", SIZE)
        metric.update([perfect(place)], Batch(torch.zeros(1, 3, 2, 2), [(2, 2)], None, [info]))
    return metric


def test_every_object_is_found_whatever_the_ids_of_the_images() -> None:
    metric = measure()
    report = metric.compute()
    for name in ("AP", "mask_AP", "keypoint_AP"):
        assert report.numbers[name] == pytest.approx(1.0)
    assert report.to_json() == measure((3, 1, 4, 2, 5)).compute().to_json()
    assert metric.compute_voc().value == 1.0
    assert [entry["image_id"] for entry in metric.coco_results()] == sorted(IMAGE_IDS)


def test_results_of_several_processes() -> None:
    metric = measure()
    report, entries, state = metric.compute(), metric.coco_results(), metric.state()
    parts = [{one: state[one] for one in ids} for ids in (IMAGE_IDS[3:], IMAGE_IDS[:3])]
    metric.merge([pickle.loads(pickle.dumps(part)) for part in parts])
    assert metric.compute().to_json() == report.to_json()
    assert metric.coco_results() == entries


def test_results_are_read_back(tmp_path: Path) -> None:
    metric, file = measure(), tmp_path / "detections.json"
    file.write_text(json.dumps(metric.coco_results()))
    results = read_results(file)
    found = results.objects(metric.truth)
    assert sorted(found) == sorted(IMAGE_IDS)
    report = count_report(metric.truth, found, (4, 11), metric.classes, results.kinds)
    assert report.to_json() == metric.compute().to_json()


def test_the_worst_image_has_its_id() -> None:
    metric = measure()
    place = IMAGE_IDS.index(10**40)
    info = ImageInfo(10**40, "", SIZE)
    wrong = perfect(place + 2)  # too far aside to be the object
    metric.update([wrong], Batch(torch.zeros(1, 3, 2, 2), [(2, 2)], None, [info]))
    for breakdown in metric.errors():
        assert [image.image_id for image in breakdown.worst] == [10**40]
    assert to_coco_json(wrong, 10**40, (4,))[0]["image_id"] == 10**40


@pytest.mark.parametrize("category", [-7, 0, 2**53])
def test_categories_keep_their_ids(category: int) -> None:
    metric = measure((1, 2), category)
    report = metric.compute()
    assert [row["class"] for row in report.per_class] == ["face", "ghost"]
    for name in ("AP", "mask_AP", "keypoint_AP"):
        assert report.per_class[0][name] == pytest.approx(1.0)
        assert report.per_class[1][name] is None
    assert {entry["category_id"] for entry in metric.coco_results()} == {category}


@pytest.mark.parametrize("category", [2**53 + 1, -(2**53) - 1, 10**40])
def test_categories_that_no_float_holds_are_refused(category: int) -> None:
    with pytest.raises(ZigguratError, match=f"'face' has the id {category}; .* number the cat"):
        measure((1, 2), category)
