"""Operations of FPT's repository, which is Detectron's: boxes, suppression, masks, input.

There a box of one pixel begins and ends at the same coordinate; its width is x2 - x1 + 1. Here it
ends where the next pixel begins. Adding 1 to x2 and y2 turns theirs into ours, and then both mean
the same, in every formula: no other path is needed.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ziggurat.data.detection import eval_image
from ziggurat.heads.roi_box import STDS, BoxHead, BoxOutput
from ziggurat.ops.box_voting import VOTED_SCORES, Voting, vote
from ziggurat.ops.boxes import clip_boxes, decode_deltas, encode_deltas
from ziggurat.ops.nms import METHODS, Suppression, suppress
from ziggurat.ops.region_masks import paste_masks
from ziggurat.ops.run_lengths import read_counts
from ziggurat.preprocessing import CAFFE_PIXELS, FitInside

DATA = Path(__file__).parent / "data" / "fpt"
LAST_PIXEL = torch.tensor([0.0, 0.0, 1.0, 1.0])
"""From their boxes to ours."""
TOLERANCE = 1e-4
"""Of the standard deviation of an output."""

Golden = Callable[[str], Any]


def values(case: Any, name: str) -> Tensor:
    """A whole output of a case."""
    return torch.from_numpy(case.values[name]).view(case.facts["outputs"][name]["shape"])


def require_equal(ours: Tensor, official: Tensor) -> None:
    assert ours.shape == official.shape
    assert float((ours - official).abs().max()) <= TOLERANCE * float(official.std(correction=0))


@pytest.mark.parametrize("part", [slice(0, 4), slice(4, 8)])
def test_deltas_become_boxes(part: slice, golden: Golden) -> None:
    case = golden("fpt/op_box_coding")
    anchors, deltas = values(case, "boxes") + LAST_PIXEL, values(case, "deltas")[:, part]
    moved = decode_deltas(anchors, deltas, None, STDS)
    require_equal(moved, values(case, "decoded_w10_10_5_5")[:, part] + LAST_PIXEL)
    # Theirs keep a pixel of a box that is outside of the image, ours nothing.
    clipped = clip_boxes(moved, (240, 280))
    clipped[:, :2] = clipped[:, :2].minimum(torch.tensor([279.0, 239.0]))
    clipped[:, 2:] = clipped[:, 2:].clamp(min=1)
    require_equal(clipped, values(case, "clipped_240x280")[:, part] + LAST_PIXEL)


def test_boxes_become_deltas(golden: Golden) -> None:
    case = golden("fpt/op_box_coding")
    boxes, truth = values(case, "boxes") + LAST_PIXEL, values(case, "gt") + LAST_PIXEL
    require_equal(encode_deltas(boxes, truth, STDS), values(case, "encoded_w10_10_5_5"))


@pytest.mark.parametrize("method", METHODS)
def test_suppression(method: str, golden: Golden) -> None:
    case = golden("fpt/op_nms")
    boxes, scores = values(case, "dets").split([4, 1], dim=1)
    one_class = torch.zeros(len(boxes), dtype=torch.int64)
    found = suppress(
        boxes + LAST_PIXEL,
        scores[:, 0],
        one_class,
        iou=0.5,
        max_detections=len(boxes),
        suppression=Suppression(method),
    )
    official = values(case, f"soft_nms_{method.removeprefix('soft-')}")
    best_first = official[official[:, 4].argsort(descending=True, stable=True)]
    require_equal(found.boxes, best_first[:, :4] + LAST_PIXEL)
    require_equal(found.scores, best_first[:, 4])
    if method == "hard":  # their other function keeps the same, in the order of the input
        kept = boxes[case.values["nms_0.5_keep"].astype(np.int64)] + LAST_PIXEL
        assert {tuple(box) for box in found.boxes.tolist()} == {tuple(b) for b in kept.tolist()}


@pytest.mark.parametrize("score", VOTED_SCORES)
def test_voting(score: str, golden: Golden) -> None:
    case = golden("fpt/op_nms")
    boxes, scores = values(case, "dets").split([4, 1], dim=1)
    boxes, scores = boxes + LAST_PIXEL, scores[:, 0]
    kept = torch.from_numpy(case.values["nms_0.5_keep"].astype(np.int64))
    one_class = torch.zeros(len(boxes), dtype=torch.int64)
    moved, voted = vote(kept, scores[kept], boxes, scores, one_class, Voting(0.8, score))
    official = values(case, f"vote_0.8_{score.upper()}")
    require_equal(moved, official[:, :4] + LAST_PIXEL)
    require_equal(voted, official[:, 4])


def test_detections_of_all_classes(golden: Golden) -> None:
    case = golden("fpt/op_detections")
    scores = torch.from_numpy(case.values["scores"])
    boxes = torch.from_numpy(case.values["boxes"]).view(-1, 5, 4)[:, 1:] + LAST_PIXEL
    # The head is given regions, logits with the background last, and moves; away from the border.
    away = torch.tensor([100.0, 100.0, 100.0, 100.0])
    regions = torch.tensor([[200.0, 200.0, 300.0, 300.0]]).expand(len(boxes), 4)
    deltas = [encode_deltas(regions, boxes[:, label] + away, STDS) for label in range(4)]
    raw = BoxOutput(scores.roll(-1, dims=1).log(), torch.cat(deltas, dim=1))
    candidates = BoxHead(1, 4).candidates(regions, raw, (900, 900), (900, 900))
    found = replace(candidates, max_detections=30).suppress()
    labels = labels_of(case)
    official = torch.from_numpy(case.values["final_scores"])
    best_first = official.argsort(descending=True, stable=True)
    require_equal(found.scores, official[best_first])
    assert found.labels.tolist() == labels[best_first].tolist()
    final = torch.from_numpy(case.values["final_boxes"])[best_first] + LAST_PIXEL
    require_equal(found.boxes - away, final)


def labels_of(case: Any) -> Tensor:
    """Our label of each final box of `op_detections`, which come class by class."""
    counts = case.facts["final_class_counts"][1:]
    return torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])


def decode(text: str, height: int, width: int) -> np.ndarray:
    """Turn COCO's run lengths, which go down the columns, into a mask."""
    counts = read_counts(text)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def test_masks_in_the_image(golden: Golden) -> None:
    case = golden("fpt/op_detections")
    boxes = torch.from_numpy(case.values["final_boxes"])
    # They pad a mask by one cell, enlarge its box by 30 / 28, cut it to whole pixels, and fill it.
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * 30 / 28
    padded = torch.cat([middle - half, middle + half], dim=1).trunc() + LAST_PIXEL
    cell = (padded[:, 2:] - padded[:, :2]) / 30
    inner = torch.cat([padded[:, :2] + cell, padded[:, 2:] - cell], dim=1)
    drawn = paste_masks(torch.from_numpy(case.values["masks"]), inner, (300, 320)).full().numpy()
    entries = [entry for of_class in case.facts["mask_rle"] for entry in of_class]
    official = np.stack([decode(entry["counts"], 300, 320) for entry in entries])
    assert drawn.shape == official.shape
    assert (drawn == official).mean() > 1 - 1e-6
    # Ours fills the box itself, not cut to whole pixels: other pixels at the border, no others.
    plain = paste_masks(torch.from_numpy(case.values["masks"]), boxes + LAST_PIXEL, (300, 320))
    ours = plain.full().numpy()
    overlap = (ours & official).sum(axis=(1, 2)) / (ours | official).sum(axis=(1, 2))
    assert overlap.min() > 0.8


@pytest.mark.parametrize("name", ["600_1000", "256_300", "800_1333", "1000_1400"])
def test_input_in_levels_blue_first(name: str, golden: Golden) -> None:
    case = golden("fpt/op_preprocess")
    short_side, long_side = (int(side) for side in name.split("_"))
    expected = FitInside(
        short_side,
        long_side,
        mean=CAFFE_PIXELS.mean,
        std=CAFFE_PIXELS.std,
        channel_order=CAFFE_PIXELS.channel_order,
    )
    with Image.open(DATA / "op_preprocess_input.png") as image:
        resized = eval_image(image.convert("RGB"), expected)
    facts = case.facts["per_setting"][name]
    padded = torch.zeros(facts["blob_shape"])
    padded[0, :, : resized.shape[1], : resized.shape[2]] = resized
    stride = case.facts["outputs"][f"blob_{name}"]["stride"]
    official = torch.from_numpy(case.values[f"blob_{name}"])
    errors = (padded.reshape(-1)[::stride] - official).abs()
    # Theirs is resized as numbers, ours as whole levels: half a level, and OpenCV's own rounding.
    # And where a side is no whole number (1066.7, 1333.3), they resize by the factor all the same,
    # which shifts the far end by a third of a pixel: more at edges.
    is_whole = short_side in (600, 256)
    assert float(errors.max()) < (0.75 if is_whole else 4.0)
    assert float(errors.mean()) < (0.27 if is_whole else 0.6)
