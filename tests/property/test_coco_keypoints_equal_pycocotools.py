"""The COCO numbers of keypoints equal those of pycocotools on random scenes, to the last digit."""

import contextlib
import copy
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ziggurat.keypoints import COCO_PERSON, Keypoints, Skeleton
from ziggurat.metrics.coco import CocoMetric
from ziggurat.metrics.coco_counts import KEYPOINT_NUMBERS
from ziggurat.types import Batch, Detections, ImageInfo

CATEGORY_IDS = (2, 5)
IMAGE_IDS = (4, 1, 30, 8)
SIZE = (250, 250)
FOUR = Skeleton(("a", "b", "c", "d"))
SIGMAS = [0.02, 0.1, 0.05, 0.3]


def random_scene(
    seed: int, skeleton: Skeleton, crowded: bool
) -> tuple[dict[str, Any], dict[int, Detections]]:
    """True objects, some crowds, some without a labelled point; detections with ties in the score.

    The last image has neither.
    """
    rng = np.random.default_rng(seed)
    count = len(skeleton)
    objects: list[dict[str, Any]] = []
    found = {}
    for image_id in IMAGE_IDS:
        points, labels = [np.zeros((0, count, 3))], []
        for _ in range(int(rng.integers(0, 6)) if image_id != IMAGE_IDS[-1] else 0):
            corner, side = rng.uniform(0, 100, 2), rng.uniform(10, 150, 2)
            category = int(rng.integers(0, 2))
            place = np.floor(rng.uniform(corner, corner + side, (count, 2)))
            visibility = rng.integers(0, 3, (count, 1)) * (rng.random() > 0.2)
            true = np.hstack([place * (visibility > 0), visibility])
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image_id,
                    "category_id": CATEGORY_IDS[category],
                    "bbox": [*corner.tolist(), *side.tolist()],
                    "area": float(side.prod() * 0.6),
                    "iscrowd": int(rng.random() < 0.15),
                    "keypoints": true.ravel().tolist(),
                    "num_keypoints": int((visibility > 0).sum()),
                }
            )
            for _ in range(int(rng.integers(0, 30 if crowded else 4))):
                noise = rng.normal(0, rng.choice([0.5, 4, 15]), (count, 2))
                near = np.hstack([place + noise + 0.5, rng.random((count, 1))])
                points.append(near[None])
                labels.append(category if rng.random() < 0.9 else 1 - category)
        found[image_id] = Detections(
            torch.zeros((len(labels), 4)),
            torch.tensor(rng.integers(1, 12, len(labels)) / 12),
            torch.tensor(labels, dtype=torch.int64),
            keypoints=Keypoints(torch.from_numpy(np.concatenate(points)), skeleton),
        )
    categories: list[dict[str, Any]] = [{"id": n, "name": str(n)} for n in CATEGORY_IDS]
    if skeleton is not COCO_PERSON:
        for entry in categories:
            entry |= {"keypoints": list(skeleton.names), "sigmas": SIGMAS}
    else:
        categories[0]["keypoints"] = list(skeleton.names)  # the other one says nothing
    truth = {
        "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in IMAGE_IDS],
        "annotations": objects,
        "categories": categories,
    }
    return truth, found


def oracle(
    truth: dict[str, Any], results: list[dict[str, Any]], sigmas: list[float] | None
) -> list[float]:
    # Without boxes, as officially: where there are some, pycocotools takes sizes from them.
    results = [{key: entry[key] for key in entry if key != "bbox"} for entry in results]
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {"info": {}, **copy.deepcopy(truth)}
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(results), "keypoints")
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def measure(truth: dict[str, Any], found: dict[int, Detections]) -> CocoMetric:
    names = [str(number) for number in CATEGORY_IDS]
    metric = CocoMetric(truth, CATEGORY_IDS, names, with_keypoints=True)
    for image_id, detections in found.items():
        info = ImageInfo(image_id, "", SIZE)
        metric.update([detections], Batch(torch.zeros(1, 3, 2, 2), [(2, 2)], None, [info]))
    return metric


def compare(seed: int, skeleton: Skeleton, sigmas: list[float] | None, crowded: bool) -> None:
    truth, found = random_scene(seed, skeleton, crowded)
    metric = measure(truth, found)
    numbers = metric.compute().numbers
    ours = [numbers[f"keypoint_{name}"] for name in KEYPOINT_NUMBERS]
    results = metric.coco_results()
    if not results:  # pycocotools refuses a file without results
        assert all(math.isnan(value) or value == 0 for value in ours)
        return
    expected = oracle(truth, results, sigmas)
    assert [-1.0 if math.isnan(value) else value for value in ours] == expected


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_equals_pycocotools(seed: int) -> None:
    compare(seed, COCO_PERSON, None, crowded=False)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_equals_pycocotools_with_given_sigmas(seed: int) -> None:
    compare(seed, FOUR, SIGMAS, crowded=False)


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_more_than_twenty_detections(seed: int) -> None:
    compare(seed, COCO_PERSON, None, crowded=True)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_the_truth_is_perfect(seed: int) -> None:
    truth, _ = random_scene(seed, FOUR, crowded=False)
    of_image: dict[int, list[dict[str, Any]]] = {image_id: [] for image_id in IMAGE_IDS}
    for entry in truth["annotations"]:
        if not entry["iscrowd"] and entry["num_keypoints"]:
            of_image[entry["image_id"]].append(entry)
    found = {}
    for image_id, entries in of_image.items():
        points = torch.tensor([e["keypoints"] for e in entries]).reshape(-1, 4, 3)
        boxes = torch.tensor([e["bbox"] for e in entries]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found[image_id] = Detections(
            boxes,
            torch.ones(len(entries)),
            torch.tensor(
                [CATEGORY_IDS.index(e["category_id"]) for e in entries], dtype=torch.int64
            ),
            keypoints=Keypoints(points + torch.tensor([0.5, 0.5, 0.0]), FOUR),
        )
    value = measure(truth, found).compute().value
    assert math.isnan(value) or value == pytest.approx(1.0)
