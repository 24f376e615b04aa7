"""Pascal VOC's average precision on curves and scenes that can be worked out by hand."""

from typing import Any

import numpy as np
import pytest
import torch

from ziggurat.errors import ZigguratError
from ziggurat.metrics.coco import CocoMetric
from ziggurat.metrics.voc import average_precisions
from ziggurat.types import Batch, Detections, ImageInfo


def truth(*objects: dict[str, Any]) -> dict[str, Any]:
    return {
        "images": [{"id": 1}, {"id": 2}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, **entry}
            for number, entry in enumerate(objects, start=1)
        ],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "star"}],
    }


def metric_of(content: dict[str, Any], *found: tuple[list[float], float]) -> CocoMetric:
    metric = CocoMetric(content, (1, 2), ("cell", "star"))
    boxes = torch.tensor([box for box, _ in found], dtype=torch.float64).reshape(-1, 4)
    scores = torch.tensor([score for _, score in found])
    result = Detections(boxes, scores, torch.zeros(len(found), dtype=torch.int64))
    info = ImageInfo(1, "1.jpg", (100, 100))
    metric.update([result], Batch(torch.zeros(1, 3, 2, 2), [(2, 2)], None, [info]))
    return metric


def test_curves_by_hand() -> None:
    hits = np.array([True, False, True, False])
    area, eleven = average_precisions(hits, 4)
    assert area == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    # Recalls 0, 0.1, 0.2 see precision 1; 0.3, 0.4, 0.5 see 2/3.
    assert eleven == pytest.approx((3 + 3 * 2 / 3) / 11)
    assert average_precisions(np.ones(4, dtype=bool), 4) == (1.0, 1.0)
    assert average_precisions(np.zeros(0, dtype=bool), 4) == (0.0, 0.0)
    assert average_precisions(hits, 0) == (None, None)


def test_a_tenth_is_exact() -> None:
    """Three of ten found reach the recall 0.3."""
    assert average_precisions(np.ones(3, dtype=bool), 10)[1] == pytest.approx(4 / 11)


def test_class_without_objects_is_left_out_of_the_mean() -> None:
    metric = metric_of(truth({"bbox": [0, 0, 10, 10]}), ([0, 0, 10, 10], 0.9))
    report = metric.compute_voc()
    assert report.primary == "VOC_AP"
    assert report.numbers == {"VOC_AP": 1.0, "VOC07_AP": 1.0}
    assert report.per_class == [
        {"class": "cell", "objects": 1, "VOC_AP": 1.0, "VOC07_AP": 1.0},
        {"class": "star", "objects": 0, "VOC_AP": None, "VOC07_AP": None},
    ]


@pytest.mark.parametrize("mark", ["difficult", "iscrowd"])
def test_what_need_not_be_found(mark: str) -> None:
    content = truth({"bbox": [0, 0, 10, 10]}, {"bbox": [50, 50, 10, 10], mark: 1})
    metric = metric_of(content, ([50, 50, 60, 60], 0.95), ([0, 0, 10, 10], 0.9))
    report = metric.compute_voc()
    assert report.numbers["VOC_AP"] == 1.0
    assert report.per_class[0]["objects"] == 1


def test_a_detection_counts_against_the_object_that_it_overlaps_most() -> None:
    """COCO would give the second detection the object that is still free."""
    content = truth({"bbox": [0, 0, 10, 10]}, {"bbox": [0, 2, 10, 10]})
    metric = metric_of(content, ([0, 0, 10, 10], 0.9), ([0, 0, 10, 11], 0.8))
    assert metric.compute().numbers["AP50"] == pytest.approx(1.0)
    assert metric.compute_voc().numbers["VOC_AP"] == pytest.approx(0.5)


def test_an_overlap_of_one_half_is_enough() -> None:
    metric = metric_of(truth({"bbox": [0, 0, 10, 10]}), ([0, 0, 10, 5], 0.9))
    assert metric.compute_voc().numbers["VOC_AP"] == 1.0
    metric = metric_of(truth({"bbox": [0, 0, 10, 10]}), ([0, 0, 10, 4.9], 0.9))
    assert metric.compute_voc().numbers["VOC_AP"] == 0.0


def test_nothing_evaluated() -> None:
    metric = CocoMetric(truth(), (1, 2), ("cell", "star"))
    with pytest.raises(ZigguratError, match="no image was evaluated"):
        metric.compute_voc()
