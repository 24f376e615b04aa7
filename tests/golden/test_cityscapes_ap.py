"""Cityscapes' average precision, from files to numbers, is that of the benchmark's own program."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.data.cityscapes_instances import INSTANCE_IDS, read_cityscapes_instances
from ziggurat.data.foreign import stop_at
from ziggurat.metrics.coco import CocoMetric
from ziggurat.types import Batch, Detections, ImageInfo, ObjectMasks

CASES = json.loads((Path(__file__).parent / "data" / "cityscapes_ap.json").read_text())
SIZE = tuple(CASES["size"])


def write(root: Path, images: list[dict[str, Any]]) -> None:
    photos, maps = (root / part / "val" / "aachen" for part in ("leftImg8bit", "gtFine"))
    for folder in (photos, maps):
        folder.mkdir(parents=True)
    for place, image in enumerate(images):
        numbers = np.full(SIZE, CASES["background"], dtype=np.uint16)
        for value, top, left, height, width in image["true"]:
            numbers[top : top + height, left : left + width] = value
        stem = f"aachen_{place:06}_000019"
        Image.fromarray(numbers).save(maps / f"{stem}_gtFine_instanceIds.png")
        Image.new("RGB", SIZE[::-1]).save(photos / f"{stem}_leftImg8bit.png")


def found(image: dict[str, Any]) -> Detections:
    masks = torch.zeros(len(image["found"]), *SIZE, dtype=torch.bool)
    for mask, (_, _, top, left, height, width) in zip(masks, image["found"], strict=True):
        mask[top : top + height, left : left + width] = True
    ids = list(INSTANCE_IDS.values())
    return Detections(
        boxes=torch.zeros(len(masks), 4),
        scores=torch.tensor([entry[0] for entry in image["found"]], dtype=torch.float64),
        labels=torch.tensor([ids.index(entry[1]) for entry in image["found"]], dtype=torch.int64),
        masks=ObjectMasks.from_full(masks),
    )


@pytest.mark.parametrize("case", CASES["cases"])
def test_numbers_equal_the_official_ones(tmp_path: Path, case: dict[str, Any]) -> None:
    write(tmp_path, case["images"])
    content, _ = read_cityscapes_instances(tmp_path, "val", stop_at(tmp_path))
    metric = CocoMetric(content, range(1, 9), tuple(INSTANCE_IDS), with_masks=True)
    for image_id, image in enumerate(case["images"], start=1):
        infos = [ImageInfo(image_id, "", SIZE)]
        metric.update([found(image)], Batch(torch.zeros(1, 3, *SIZE), [SIZE], None, infos))
    report = metric.compute_cityscapes()
    for key in ("AP", "AP50"):
        assert report.numbers[f"Cityscapes_{key}"] == pytest.approx(case[key], abs=1e-12)
    for row in report.per_class:
        for key, expected in zip(("AP", "AP50"), case["classes"][row["class"]], strict=True):
            assert row[f"Cityscapes_{key}"] == (
                None if expected is None else pytest.approx(expected, abs=1e-12)
            )
