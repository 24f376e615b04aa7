"""The detection pipeline gives what mmdet's gives: image, boxes, sizes, padding."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.data.detection import DetectionTransform
from ziggurat.data.loading import collate
from ziggurat.data.resize import fit_size, resize_exact
from ziggurat.preprocessing import FitInside
from ziggurat.types import Detections, ImageInfo, ObjectMasks, Sample

DATA = Path(__file__).parent / "data"
CASES = ("up", "down", "long")


@pytest.fixture(scope="module")
def case() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DATA / "pipe_det.json").read_text())
    return content


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(DATA / "pipe_det.npz") as arrays:
        return dict(arrays)


def make_image(height: int, width: int, seed: int) -> np.ndarray:
    """The formula of the golden file; blue, green, red."""
    y, x = np.mgrid[0:height, 0:width]
    levels = np.stack(
        [127 + 60 * np.sin(x / (7 + c) + c) + 40 * np.cos(y / (5 + 2 * c)) for c in range(3)], 2
    )
    levels += np.random.RandomState(seed).randint(-20, 21, (height, width, 3))
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", CASES)
def test_resize_equals_opencv_in_every_value(
    case: dict[str, Any], golden: dict[str, np.ndarray], name: str
) -> None:
    settings = case[f"resize_{name}"]
    image = make_image(*case["image"])
    long_side, short_side = max(settings["img_scale"]), min(settings["img_scale"])
    size = fit_size((image.shape[0], image.shape[1]), short_side, long_side)
    assert list(size) == settings["img_shape"][:2]
    output = f"resize_{name}_img_uint8_bgr"
    resized = resize_exact(image, size)
    expected = golden[output]
    assert (resized.reshape(-1)[:: case["outputs"][output]["stride"]] == expected).all()
    assert resized.mean() == pytest.approx(case["outputs"][output]["mean"], abs=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_whole_pipeline(case: dict[str, Any], golden: dict[str, np.ndarray], name: str) -> None:
    settings = case[f"full_{name}"]
    scale = case[f"resize_{name}"]["img_scale"]
    preprocessing = FitInside(short_side=min(scale), long_side=max(scale))
    transform = DetectionTransform(preprocessing, flip=1.0, scales=None, exact_resize=True)
    image = Image.fromarray(np.ascontiguousarray(make_image(*case["image"])[..., ::-1]))
    boxes = torch.tensor(case["gt_bboxes"])
    tensor, target = transform(image, Detections(boxes, torch.ones(2), torch.tensor([3, 1])))
    assert list(tensor.shape[1:]) == settings["img_shape"][:2]
    batch = collate([Sample(tensor, target, ImageInfo(0, "", (1, 1)))], preprocessing.divisor)
    assert list(batch.images.shape[2:]) == settings["pad_shape"][:2]

    output = f"full_{name}_flipped_normalized_padded_rgb_hwc"
    values = batch.images[0].permute(1, 2, 0).reshape(-1).numpy()
    ours = values[:: case["outputs"][output]["stride"]]
    assert np.abs(ours - golden[output]).max() <= 1e-6
    assert target.labels.tolist() == [3, 1]
    expected = golden[f"full_{name}_flipped_boxes"].reshape(-1, 4)
    assert np.abs(target.boxes.numpy() - expected).max() <= 3e-5


def test_boxes_without_flip(case: dict[str, Any], golden: dict[str, np.ndarray]) -> None:
    image = Image.fromarray(make_image(*case["image"]))
    target = Detections(torch.tensor(case["gt_bboxes"]), torch.ones(2), torch.tensor([0, 0]))
    transform = DetectionTransform(FitInside(240, 400), flip=0.0, scales=None, exact_resize=True)
    boxes = transform(image, target)[1].boxes.numpy()
    assert np.abs(boxes - golden["resize_up_boxes"].reshape(-1, 4)).max() <= 3e-5


def ellipses(case: dict[str, Any]) -> ObjectMasks:
    """The masks of the golden file: the ellipse inside of each box."""
    y, x = np.mgrid[0 : case["image"][0], 0 : case["image"][1]] + 0.5
    masks = [
        ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 <= 1
        for x1, y1, x2, y2 in case["gt_bboxes"]
    ]
    return ObjectMasks.from_full(torch.from_numpy(np.stack(masks)))


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("name", CASES)
def test_masks(case: dict[str, Any], golden: dict[str, np.ndarray], name: str, flip: float) -> None:
    scale = case[f"resize_{name}"]["img_scale"]
    preprocessing = FitInside(short_side=min(scale), long_side=max(scale))
    transform = DetectionTransform(preprocessing, flip=flip, scales=None, exact_resize=True)
    target = Detections(
        torch.tensor(case["gt_bboxes"]), torch.ones(2), torch.tensor([0, 1]), ellipses(case)
    )
    _, moved = transform(Image.fromarray(make_image(*case["image"])), target)
    assert moved.masks is not None
    masks, output = moved.masks, f"resize_{name}_masks"
    if flip:
        height, width, _ = case[f"full_{name}"]["pad_shape"]
        masks = replace(masks, size=(height, width))  # empty at the right and at the bottom
        output = f"full_{name}_flipped_masks"
    full = masks.full()
    assert full.sum(dim=(1, 2)).tolist() == case[f"resize_{name}"]["mask_areas"]
    ours = full.flatten()[:: case["outputs"][output]["stride"]].numpy()
    assert (ours == golden[output]).all()


def test_sizes(case: dict[str, Any]) -> None:
    for width, height, limits, expected in case["rescale_size_w_h_scale_result"]:
        size = fit_size((height, width), min(limits), max(limits))
        assert size == (expected[1], expected[0])
