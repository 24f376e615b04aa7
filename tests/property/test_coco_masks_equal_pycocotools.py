"""The COCO numbers of masks equal those of pycocotools on random scenes, to the last digit."""

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
from ziggurat.metrics.coco_counts import NUMBERS
from ziggurat.types import Batch, Detections, ImageInfo, ObjectMasks

CATEGORY_IDS = (2, 5)
IMAGE_IDS = (4, 1, 30)
SIZE = (120, 150)


def disc(rng: np.random.Generator) -> np.ndarray:
    """A random ellipse of any size, some of it outside of the image."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    middle = rng.uniform((0, 0), SIZE)
    radius = rng.uniform(1, 60, 2)
    return ((y - middle[0]) / radius[0]) ** 2 + ((x - middle[1]) / radius[1]) ** 2 < 1


def runs(mask: np.ndarray) -> list[int]:
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    counts: list[int] = np.diff(changes, prepend=0, append=flat.size).tolist()
    return counts


def outline(rng: np.random.Generator) -> list[float]:
    return (rng.uniform(0, 1, (5, 2)) * SIZE[::-1]).flatten().tolist()


def random_scene(seed: int, crowded: bool) -> tuple[dict[str, Any], dict[int, Detections]]:
    """True objects as polygons and run lengths, some crowds; detections with ties in the score."""
    rng = np.random.default_rng(seed)
    objects: list[dict[str, Any]] = []
    found = {}
    for image_id in IMAGE_IDS:
        masks, labels = [np.zeros(SIZE, dtype=bool)], [0]  # one detection has an empty mask
        for _ in range(int(rng.integers(0, 7))):
            mask, category = disc(rng), int(rng.integers(0, 2))
            is_crowd = rng.random() < 0.2
            segmentation: Any = {"size": list(SIZE), "counts": runs(mask)}
            if not is_crowd and rng.random() < 0.3:
                segmentation = [outline(rng), outline(rng)]
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image_id,
                    "category_id": CATEGORY_IDS[category],
                    "bbox": [1.0, 1.0, 9.0, 9.0],
                    "area": float(mask.sum()),
                    "segmentation": segmentation,
                    "iscrowd": int(is_crowd),
                }
            )
            for _ in range(int(rng.integers(0, 60 if crowded else 4))):
                shift = rng.integers(-5, 6, 2).tolist()
                masks.append(np.roll(mask, shift, (0, 1)))
                labels.append(category if rng.random() < 0.9 else 1 - category)
        scores = rng.integers(1, 12, len(masks)) / 12
        found[image_id] = Detections(
            torch.zeros((len(masks), 4)),
            torch.tensor(scores),
            torch.tensor(labels),
            ObjectMasks.from_full(torch.from_numpy(np.stack(masks))),
        )
    truth = {
        "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in IMAGE_IDS],
        "annotations": objects,
        "categories": [{"id": number, "name": str(number)} for number in CATEGORY_IDS],
    }
    return truth, found


def oracle(truth: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    # Without boxes, as officially: where there are some, pycocotools takes sizes from them.
    results = [{key: entry[key] for key in entry if key != "bbox"} for entry in results]
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {"info": {}, **truth}
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def compare(seed: int, crowded: bool) -> None:
    truth, found = random_scene(seed, crowded)
    names = [str(number) for number in CATEGORY_IDS]
    metric = CocoMetric(truth, CATEGORY_IDS, names, with_masks=True)
    for image_id, detections in found.items():
        info = ImageInfo(image_id, "", SIZE)
        metric.update([detections], Batch(torch.zeros(1, 3, 2, 2), [(2, 2)], None, [info]))
    numbers = metric.compute().numbers
    ours = [numbers[f"mask_{name}"] for name in NUMBERS]
    expected = oracle(truth, metric.coco_results())
    assert [-1.0 if math.isnan(value) else value for value in ours] == expected
    # The breakdown of mistakes matches by itself, and must find the same.
    of_boxes, of_masks = metric.errors()
    assert of_boxes.of == "boxes"
    np.testing.assert_allclose(of_masks.ap50, numbers["mask_AP50"], rtol=1e-12)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_equals_pycocotools(seed: int) -> None:
    compare(seed, crowded=False)


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_more_than_a_hundred_detections(seed: int) -> None:
    compare(seed, crowded=True)
