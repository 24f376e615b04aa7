"""The COCO numbers equal those of pycocotools on random scenes, to the last digit."""

import contextlib
import io
import math
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ziggurat.metrics.coco import CocoMetric
from ziggurat.types import Batch, Detections, ImageInfo

NAMES = [
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR_1",
    "AR_10",
    "AR_100",
    "AR_small",
    "AR_medium",
    "AR_large",
]
CATEGORY_IDS = (2, 5, 9)
IMAGE_IDS = (4, 1, 30)


def random_scene(seed: int, most: int) -> tuple[dict[str, Any], dict[int, Detections]]:
    """True objects, some of them crowds, up to `most` detections near each, ties in the score."""
    rng = np.random.default_rng(seed)
    objects: list[dict[str, Any]] = []
    found = {}
    for image_id in IMAGE_IDS:
        boxes, labels = [], []
        for _ in range(rng.integers(0, 8)):
            box = np.concatenate([rng.integers(0, 60, 2), rng.integers(1, 130, 2)]).astype(float)
            category = int(rng.integers(0, 3))
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image_id,
                    "category_id": CATEGORY_IDS[category],
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
            for _ in range(rng.integers(0, most)):
                moved = box + rng.integers(-4, 5, 4)
                moved[2:] = np.maximum(moved[2:], 1)
                boxes.append([*moved[:2], *(moved[:2] + moved[2:])])
                labels.append(category if rng.random() < 0.8 else int(rng.integers(0, 3)))
        scores = rng.integers(1, 12, len(boxes)) / 12
        found[image_id] = Detections(
            torch.tensor(np.array(boxes).reshape(-1, 4)),
            torch.tensor(scores),
            torch.tensor(labels, dtype=torch.int64),
        )
    truth = {
        "images": [{"id": image_id} for image_id in IMAGE_IDS],
        "annotations": objects,
        "categories": [{"id": number, "name": str(number)} for number in CATEGORY_IDS],
    }
    return truth, found


def oracle(
    truth: dict[str, Any], results: list[dict[str, Any]], image_ids: list[int]
) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {"info": {}, **truth}
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(results), "bbox")
        evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def compare(seed: int, num_images: int, most: int) -> None:
    truth, found = random_scene(seed, most)
    evaluated = list(IMAGE_IDS[:num_images])
    metric = CocoMetric(truth, CATEGORY_IDS, [str(number) for number in CATEGORY_IDS])
    for image_id in evaluated:
        info = ImageInfo(image_id, "", (200, 200))
        batch = Batch(torch.zeros(1, 3, 2, 2), [(2, 2)], None, [info])
        metric.update([found[image_id]], batch)
    numbers = metric.compute().numbers
    (breakdown,) = metric.errors()
    # The breakdown of mistakes matches by itself, and must find the same.
    np.testing.assert_allclose(breakdown.ap50, numbers["AP50"], rtol=1e-12)
    results = metric.coco_results()
    if not results:
        return  # pycocotools cannot read an empty list
    expected = oracle(truth, results, evaluated)
    assert list(numbers) == NAMES
    ours = [-1.0 if math.isnan(value) else value for value in numbers.values()]
    assert ours == expected


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), num_images=st.integers(1, 3))
def test_equals_pycocotools(seed: int, num_images: int) -> None:
    compare(seed, num_images, most=4)


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_more_than_a_hundred_detections(seed: int) -> None:
    compare(seed, num_images=3, most=90)
