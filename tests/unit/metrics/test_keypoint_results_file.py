"""Keypoints of results files: read back to the same numbers, refused where they do not fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ziggurat.errors import ZigguratError
from ziggurat.metrics.coco import CocoMetric, count_errors, count_report
from ziggurat.metrics.coco_results import read_results
from ziggurat.metrics.coco_truth import read_truth
from ziggurat.types import Batch, Detections, ImageInfo

POINTS = [2, 2, 2, 7, 3, 1, 0, 0, 0]
TRUTH: dict[str, Any] = {
    "images": [{"id": 1, "height": 10, "width": 12}, {"id": 4, "height": 10, "width": 12}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 5, "bbox": [2, 2, 6, 6], "keypoints": POINTS},
        {"id": 2, "image_id": 4, "category_id": 5, "bbox": [2, 2, 6, 6]},
    ],
    "categories": [{"id": 5, "name": "face", "keypoints": ["nose", "left_eye", "right_eye"]}],
}
GOOD: dict[str, Any] = {
    "image_id": 1,
    "category_id": 5,
    "score": 0.5,
    "keypoints": [2, 2, 0.9, 7, 3, 0.8, 5, 5, 0.1],
}


def write(folder: Path, *entries: object) -> Path:
    file = folder / "detections.json"
    file.write_text(json.dumps(entries))
    return file


def truth_with_keypoints() -> Any:
    return read_truth(TRUTH, with_masks=False, with_keypoints=True)


def test_keypoints_alone(tmp_path: Path) -> None:
    truth, results = truth_with_keypoints(), read_results(write(tmp_path, GOOD))
    assert results.kinds == ("keypoints",)
    found = results.objects(truth)
    assert found[1].rows[0, 1:5].tolist() == [2, 2, 5, 3]  # around all points
    assert found[4].points is not None and found[4].points.shape == (0, 3, 3)
    report = count_report(truth, found, [5], ["face"], results.kinds)
    assert report.primary == "keypoint_AP"
    assert report.value == pytest.approx(1.0)  # the object without a labelled point does not count
    assert len(report.numbers) == 10
    assert report.per_size[0]["keypoint_AP"] is None
    assert count_errors(truth, found, [5], results.kinds) == ()


def test_keypoints_beside_boxes(tmp_path: Path) -> None:
    results = read_results(write(tmp_path, GOOD | {"bbox": [2, 2, 6, 6]}))
    assert results.kinds == ("boxes", "keypoints")
    found = results.objects(truth_with_keypoints())
    assert found[1].rows[0, 1:5].tolist() == [2, 2, 6, 6]
    report = count_report(truth_with_keypoints(), found, [5], ["face"], results.kinds)
    assert len(report.numbers) == 22
    errors = count_errors(truth_with_keypoints(), found, [5], results.kinds)
    assert [breakdown.of for breakdown in errors] == ["boxes"]


@pytest.mark.parametrize(
    "keypoints", [None, 3, [1, 2, 3], [1, 2, "a"] * 3, [1, 2, float("nan")] * 3, [True, 2, 3] * 3]
)
def test_wrong_keypoints_are_refused(keypoints: object, tmp_path: Path) -> None:
    results = read_results(write(tmp_path, GOOD, GOOD | {"keypoints": keypoints}))
    with pytest.raises(ZigguratError, match="entry 1 has keypoints that are not 9 finite numbers"):
        results.objects(truth_with_keypoints())


def test_keypoints_of_some_entries_are_refused(tmp_path: Path) -> None:
    entries = [GOOD | {"bbox": [2, 2, 6, 6]}, {k: v for k, v in GOOD.items() if k != "keypoints"}]
    results = read_results(write(tmp_path, *[e | {"bbox": [2, 2, 6, 6]} for e in entries]))
    with pytest.raises(ZigguratError, match="entry 1 has keypoints that are not"):
        results.objects(truth_with_keypoints())


def test_truth_without_keypoints_is_refused() -> None:
    for change, message in (
        ({"categories": [{"id": 5, "name": "face"}]}, "none of its categories names keypoints"),
        (
            {"annotations": [TRUTH["annotations"][0] | {"keypoints": [1, 2]}]},
            "annotation 1 of image 1 has no usable keypoints: its keypoints are 2 numbers",
        ),
        (
            {"categories": [TRUTH["categories"][0] | {"sigmas": [1, 2]}]},
            "expected 3 numbers above 0",
        ),
    ):
        with pytest.raises(ZigguratError, match=message):
            read_truth(TRUTH | change, with_masks=False, with_keypoints=True)


def test_a_metric_of_keypoints_needs_keypoints() -> None:
    metric = CocoMetric(TRUTH, [5], ["face"], with_keypoints=True)
    boxes = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    batch = Batch(torch.zeros(1, 3, 2, 2), [(2, 2)], None, [ImageInfo(1, "", (10, 12))])
    with pytest.raises(TypeError, match="a COCO metric of keypoints needs keypoints"):
        metric.update([boxes], batch)


def test_points_of_the_truth_by_image() -> None:
    by_image = truth_with_keypoints().by_image
    np.testing.assert_array_equal(by_image[1].points[0].ravel(), POINTS)
    assert not by_image[4].points.any()
    assert read_truth(TRUTH, with_masks=False).by_image[1].points.shape == (1, 0, 3)
