"""A run whose largest batch a Feature Pyramid Transformer has no memory for does not begin."""

from typing import Any

import pytest
import torch

from ziggurat.config import load_run
from ziggurat.config.data import DetectionData, SegmentationData
from ziggurat.engine.largest_batch import (
    check_largest_batches,
    largest_to_learn_from,
    largest_to_validate_on,
)
from ziggurat.errors import ZigguratError
from ziggurat.necks import fpt
from ziggurat.zoo import create_model

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("options", "learned", "looked_at"),
    [
        ({}, (800, 1333), (800, 1333)),
        ({"train_short_sides": (400, 1200)}, (1200, 1333), (800, 1333)),
        ({"train_short_sides": (400, 1600)}, (1333, 1333), (800, 1333)),
        ({"max_train_side": 1024}, (800, 1024), (800, 1333)),
        ({"crop_first": 0.5}, (1333, 1333), (800, 1333)),
        ({"crop_first": 0.5, "batch_size": 1}, (800, 1333), (800, 1333)),
        ({"scale_jitter": (0.1, 2.0)}, (1024, 1024), (800, 1333)),
        ({"scale_jitter": (0.1, 0.5)}, (512, 512), (800, 1333)),
        ({"eval_batch_size": 2}, (800, 1333), (1333, 1333)),
    ],
    ids=str,
)
def test_largest_images_of_a_detector(
    options: dict[str, Any], learned: tuple[int, int], looked_at: tuple[int, int]
) -> None:
    data = DetectionData("data", **options)
    assert largest_to_learn_from(data) == learned
    assert largest_to_validate_on(data) == looked_at


def test_largest_images_of_a_segmenter() -> None:
    data = SegmentationData("data", short_side=500, long_side=2000, crop=(384, 640))
    assert largest_to_learn_from(data) == (384, 640)
    assert largest_to_validate_on(data) == (512, 2016)


@pytest.mark.parametrize(
    ("gib", "words", "message"),
    [
        (2, [], "needs about .* for 2 images whose finest map is 304 x 352"),  # 1216 x 1408
        (2, ["--data.batch_size=1", "--data.train_short_sides=[64]"], None),
        (1, ["--data.batch_size=1", "--data.train_short_sides=[64]"], "data.eval_batch_size 1"),
    ],
)
def test_the_largest_batch_decides(
    gib: int, words: list[str], message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fpt, "available_bytes", lambda _: gib * 2**30)
    config = load_run("mask_rcnn_fpt_resnet50_180k_coco", ["--data.root=coco", *words])
    with torch.device("meta"):
        model = create_model("mask_rcnn_fpt_resnet50")
        plain = create_model("mask_rcnn_resnet50")
    check_largest_batches(plain, config, 32, CPU)
    if message is None:
        check_largest_batches(model, config, 32, CPU)
        return
    with pytest.raises(ZigguratError, match=message):
        check_largest_batches(model, config, 32, CPU)
