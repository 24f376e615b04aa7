"""COCO AP on cases that can be worked out by hand, and on bad annotations."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.keypoints import Keypoints, Skeleton
from ziggurat.metrics.coco import CocoMetric, to_coco_json
from ziggurat.types import Batch, ClassScores, Detections, ImageInfo

CATEGORY_IDS = (3, 7)
CLASSES = ("cell", "star")


def annotations(first_id: int = 1) -> dict[str, Any]:
    objects = [
        {"image_id": 10, "category_id": 3, "bbox": [0, 0, 40, 40]},
        {"image_id": 10, "category_id": 7, "bbox": [50, 50, 20, 20]},
        {"image_id": 11, "category_id": 3, "bbox": [5, 5, 100, 100]},
    ]
    return {
        "images": [{"id": 10}, {"id": 11}, {"id": 12}],
        "annotations": [
            {"id": first_id + number, "area": 400, "iscrowd": 0, **entry}
            for number, entry in enumerate(objects)
        ],
        "categories": [{"id": 3, "name": "cell"}, {"id": 7, "name": "star"}],
    }


def found(*objects: tuple[list[float], float, int]) -> Detections:
    return Detections(
        torch.tensor([box for box, _, _ in objects]).reshape(-1, 4),
        torch.tensor([score for _, score, _ in objects]),
        torch.tensor([label for _, _, label in objects], dtype=torch.int64),
    )


def batch_of(*image_ids: int) -> Batch:
    return Batch(
        images=torch.zeros(len(image_ids), 3, 8, 8),
        image_sizes=[(8, 8)] * len(image_ids),
        targets=None,
        infos=[ImageInfo(number, f"{number}.jpg", (200, 200)) for number in image_ids],
    )


CELL = ([0.0, 0.0, 40.0, 40.0], 0.9, 0)
STAR = ([50.0, 50.0, 70.0, 70.0], 0.8, 1)


@pytest.mark.parametrize("first_id", [0, 1])
def test_truth_against_itself_is_perfect(first_id: int) -> None:
    metric = CocoMetric(annotations(first_id), CATEGORY_IDS, CLASSES)
    metric.update([found(CELL, STAR), found(([5.0, 5.0, 105.0, 105.0], 1.0, 0))], batch_of(10, 11))
    report = metric.compute()
    # pycocotools divides by (true + false positives + the smallest float64 step).
    assert report.numbers["AP"] == pytest.approx(1.0)
    assert report.numbers["AR_100"] == 1.0
    assert report.num_images == 2
    assert [row["objects"] for row in report.per_class] == [2, 1]


def test_a_false_positive_above_the_hit_halves_precision() -> None:
    metric = CocoMetric(annotations(), CATEGORY_IDS, CLASSES)
    wrong = ([100.0, 100.0, 120.0, 120.0], 0.95, 0)
    metric.update([found(wrong, CELL, STAR)], batch_of(10))
    rows = {row["class"]: row for row in metric.compute().per_class}
    assert rows["cell"]["AP"] == pytest.approx(0.5)
    assert rows["star"]["AP"] == pytest.approx(1.0)


def test_only_evaluated_images_count() -> None:
    metric = CocoMetric(annotations(), CATEGORY_IDS, CLASSES)
    metric.update([found(CELL, STAR)], batch_of(10))
    assert metric.compute().numbers["AR_100"] == 1.0
    metric.update([found()], batch_of(11))
    assert metric.compute().numbers["AR_100"] == pytest.approx(0.75)


def test_no_truth_is_not_a_number() -> None:
    metric = CocoMetric(annotations(), CATEGORY_IDS, CLASSES)
    metric.update([found(CELL)], batch_of(12))
    report = metric.compute()
    assert math.isnan(report.numbers["AP"])
    assert report.to_json()["metrics"]["AP"] is None
    assert report.per_class[0]["AP"] is None


def test_nothing_found_scores_zero() -> None:
    metric = CocoMetric(annotations(), CATEGORY_IDS, CLASSES)
    metric.update([found()], batch_of(10))
    assert metric.compute().numbers["AP"] == 0.0


def test_area_and_crowd_may_be_absent() -> None:
    content = annotations()
    for entry in content["annotations"]:
        del entry["area"], entry["iscrowd"]
    metric = CocoMetric(content, CATEGORY_IDS, CLASSES)
    metric.update([found(CELL, STAR)], batch_of(10))
    numbers = metric.compute().numbers
    # 40 x 40 is medium (more than 32 x 32), 20 x 20 is small.
    assert numbers["AP_medium"] == pytest.approx(1.0)
    assert numbers["AP_small"] == pytest.approx(1.0)
    assert math.isnan(numbers["AP_large"])


def test_classes_that_the_data_do_not_know_are_left_out() -> None:
    metric = CocoMetric(annotations(), (None, 3, 7), ("ghost", *CLASSES))
    ghost = ([0.0, 0.0, 9.0, 9.0], 1.0, 0)
    metric.update([found(ghost, (CELL[0], 0.9, 1), (STAR[0], 0.8, 2))], batch_of(10))
    report = metric.compute()
    assert report.numbers["AP"] == pytest.approx(1.0)
    assert [row["class"] for row in report.per_class] == ["cell", "star"]
    assert len(metric.coco_results()) == 2


def test_merging_processes_equals_counting_in_one() -> None:
    first, second, both = (CocoMetric(annotations(), CATEGORY_IDS, CLASSES) for _ in range(3))
    first.update([found(CELL)], batch_of(10))
    second.update([found(([0.0, 0.0, 60.0, 60.0], 0.3, 0))], batch_of(11))
    both.update([found(([0.0, 0.0, 60.0, 60.0], 0.3, 0)), found(CELL)], batch_of(11, 10))
    second.merge([first.state(), second.state()])
    assert second.compute().to_json() == both.compute().to_json()
    assert second.coco_results() == both.coco_results()


def test_result_format() -> None:
    entries = to_coco_json(found(STAR, CELL), 10, CATEGORY_IDS)
    assert [entry["category_id"] for entry in entries] == [3, 7]
    assert entries[1] == {
        "image_id": 10,
        "category_id": 7,
        "bbox": [50.0, 50.0, 20.0, 20.0],
        "score": pytest.approx(0.8),
    }
    json.dumps(entries)


def test_reset_forgets() -> None:
    metric = CocoMetric(annotations(), CATEGORY_IDS, CLASSES)
    metric.update([found(CELL)], batch_of(10))
    metric.reset()
    with pytest.raises(ZigguratError, match="no image was evaluated"):
        metric.compute()


def test_bad_annotation_files(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="cannot be read as a COCO"):
        CocoMetric(tmp_path / "absent.json", CATEGORY_IDS, CLASSES)
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": [')
    with pytest.raises(ZigguratError, match="broken.json cannot be read"):
        CocoMetric(broken, CATEGORY_IDS, CLASSES)
    faulty: list[Any] = [{"images": []}, [], {**annotations(), "annotations": [{"bbox": [1]}]}]
    for content in faulty:
        broken.write_text(json.dumps(content))
        with pytest.raises(ZigguratError, match="no COCO layout"):
            CocoMetric(broken, CATEGORY_IDS, CLASSES)
    broken.write_text(json.dumps(annotations()))
    CocoMetric(broken, CATEGORY_IDS, CLASSES)


def test_rejects_what_makes_no_sense() -> None:
    with pytest.raises(ZigguratError, match="share no class"):
        CocoMetric(annotations(), (None, None), CLASSES)
    metric = CocoMetric(annotations(), CATEGORY_IDS, CLASSES)
    with pytest.raises(TypeError, match="needs detections"):
        metric.update([ClassScores(torch.ones(2))], batch_of(10))
    with pytest.raises(ZigguratError, match="not finite"):
        metric.update([found(([0.0, 0.0, math.nan, 1.0], 0.5, 0))], batch_of(10))
    with pytest.raises(ValueError, match="one entry an image"):
        metric.update([found(), found()], batch_of(10))


@pytest.mark.shared_data
def test_equals_pycocotools_on_real_annotations(shared_data: Path) -> None:
    """Made-up detections with duplicates, crowd hits and more than 100 in an image."""
    root = shared_data / "coco_mini"
    truth = root / "annotations" / "instances_val2017.json"
    content = json.loads(truth.read_text())
    golden = json.loads((root / "eval_golden" / "expected_metrics.json").read_text())
    categories = sorted(content["categories"], key=lambda category: int(category["id"]))
    ids = [category["id"] for category in categories]
    by_image: dict[int, list[dict[str, Any]]] = {entry["id"]: [] for entry in content["images"]}
    for entry in json.loads((root / "eval_golden" / "detections_bbox.json").read_text()):
        by_image[entry["image_id"]].append(entry)
    metric = CocoMetric(truth, ids, [category["name"] for category in categories])
    for image_id, entries in by_image.items():
        boxes = torch.tensor([e["bbox"] for e in entries], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = torch.tensor([e["score"] for e in entries], dtype=torch.float64)
        labels = torch.tensor([ids.index(e["category_id"]) for e in entries], dtype=torch.int64)
        metric.update([Detections(boxes, scores, labels)], batch_of(image_id))
    report = metric.compute()
    assert report.numbers == golden["bbox"]
    assert {row["class"]: row["AP"] for row in report.per_class} == golden["bbox_per_category_AP"]


def test_entries_of_a_device_without_float64(on_mps: Callable[[Tensor], Tensor]) -> None:
    points, skeleton = torch.tensor([[[3.5, 4.5, 0.75]]]), Skeleton(("nose",))
    objects = replace(found(STAR), keypoints=Keypoints(points, skeleton))
    there = Detections(
        on_mps(objects.boxes),
        on_mps(objects.scores),
        objects.labels,
        keypoints=Keypoints(on_mps(points), skeleton),
    )
    entries = to_coco_json(there, 10, CATEGORY_IDS)
    assert entries == to_coco_json(objects, 10, CATEGORY_IDS)
