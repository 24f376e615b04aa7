"""Under every transform of detection a box stays around its mask and a mask on its pixels.

Each object of a test image is a rectangle of its own colour, so that where it went can be seen.
"""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ziggurat.data.copy_paste import paste_objects
from ziggurat.data.detection import CropFirst, DetectionTransform, ScaleJitter
from ziggurat.data.randomness import seeded
from ziggurat.preprocessing import FitInside
from ziggurat.types import Detections, ObjectMasks

PLAIN = FitInside(short_side=60, long_side=90, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
PIPELINES = {
    "1x": DetectionTransform(PLAIN, flip=0.5, scales=None, exact_resize=True),
    "fast": DetectionTransform(PLAIN, flip=0.5, scales=None, exact_resize=False),
    "detr": DetectionTransform(PLAIN, flip=0.5, scales=(40, 50, 60), exact_resize=True),
    "3x": DetectionTransform(
        PLAIN,
        flip=0.5,
        scales=(40, 50, 60),
        exact_resize=True,
        crop_first=CropFirst(0.5, (30, 40), (20, 36)),
    ),
    "gpvit": DetectionTransform(
        PLAIN,
        flip=0.5,
        scales=(40, 50, 60),
        exact_resize=True,
        crop_first=CropFirst(0.5, (30, 40), (20, 36)),
        max_side=45,
    ),
    "jitter": DetectionTransform(
        PLAIN, flip=0.5, scales=None, exact_resize=True, jitter=ScaleJitter((0.3, 2.0), 64)
    ),
}


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Image.Image, Detections]:
    """A dark image with up to three bright rectangles that do not touch, each with its mask."""
    height, width = draw(st.integers(8, 90)), draw(st.integers(24, 90))
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    masks, boxes = [], []
    count = draw(st.integers(0, 3))
    for index in range(count):
        left = index * width // 3 + 1
        right = draw(st.integers(left + 1, (index + 1) * width // 3 - 1))
        top = draw(st.integers(0, height - 2))
        bottom = draw(st.integers(top + 1, height - 1))
        pixels[top:bottom, left:right, index] = 255
        mask = np.zeros((height, width), dtype=bool)
        mask[top:bottom, left:right] = True
        masks.append(mask)
        boxes.append([left, top, right, bottom])
    full = torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, height, width))
    found = Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.ones(count),
        torch.arange(count),
        ObjectMasks.from_full(full),
    )
    return Image.fromarray(pixels), found


@given(scenes(), st.sampled_from(sorted(PIPELINES)), st.integers(0, 10**6))
@settings(max_examples=300)
def test_boxes_and_masks_stay_on_their_object(
    scene: tuple[Image.Image, Detections], name: str, seed: int
) -> None:
    with seeded(seed):
        tensor, target = PIPELINES[name](*scene)
    size = (tensor.shape[1], tensor.shape[2])
    assert target.masks is not None
    assert len(target.masks) == len(target) == len(target.labels)
    assert target.masks.size == size
    x1, y1, x2, y2 = target.boxes.unbind(dim=1)
    assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= size[1]).all() and (y2 <= size[0]).all()
    for box, label, mask in zip(target.boxes, target.labels, target.masks.full(), strict=True):
        brightness = tensor[int(label)]
        # A pixel takes its neighbours in too, so that edges are grey, and the nearest pixel may
        # be the one beside: inside of the mask it is never dark, well outside never bright.
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        if not len(rows):
            continue
        grown = torch.nn.functional.max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0
        outside = torch.nn.functional.pad((~mask)[None].float(), (1, 1, 1, 1), value=1.0)
        shrunk = torch.nn.functional.max_pool2d(outside, 3, 1)[0] == 0
        # What was cut out first was resized twice, each time by another factor.
        is_cut = PIPELINES[name].crop_first is not None
        scale = max(size[0] / scene[0].height, size[1] / scene[0].width)
        if not is_cut and scale >= 0.5:  # further down, pixels are skipped
            assert (brightness[shrunk] > 0.02).all()
        if not is_cut and scale <= 1:
            assert (brightness[~grown] < 0.7).all()
        # The mask takes its pixels from the upper left: it may begin one enlarged pixel late.
        slack = 8.0 if is_cut else 1 + scale
        seen = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert (seen[:2] >= box[:2] - 1).all() and (seen[2:] <= box[2:] + slack).all()
        assert (seen - box).abs().max() <= slack + 1


@given(scenes(), st.integers(0, 10**6))
@settings(max_examples=50)
def test_flipping_twice_is_nothing(scene: tuple[Image.Image, Detections], seed: int) -> None:
    image, objects = scene
    size = FitInside(short_side=min(image.size), long_side=max(image.size))
    flip = DetectionTransform(size, flip=1.0, scales=None, exact_resize=True)
    flipped, moved = flip(image, objects)
    again, back = flip(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), moved)
    assert torch.equal(again, flipped.flip(2))
    assert moved.masks is not None
    windows = moved.masks.windows
    edges = torch.cat([windows[:, :2], windows[:, :2] + windows[:, 2:]], dim=1)
    assert torch.equal(edges.float(), moved.boxes)  # these boxes are as tight as can be
    assert torch.equal(back.boxes, objects.boxes)
    assert back.masks is not None and objects.masks is not None
    assert torch.equal(back.masks.full(), objects.masks.full())


@given(scenes(), scenes(), st.sampled_from(sorted(PIPELINES)), st.integers(0, 10**6))
@settings(max_examples=200)
def test_pasted_objects_take_their_pixels_along(
    first: tuple[Image.Image, Detections],
    second: tuple[Image.Image, Detections],
    name: str,
    seed: int,
) -> None:
    with seeded(seed):
        image, objects = PIPELINES[name](*first)
        other, others = PIPELINES[name](*second)
        others = replace(others, labels=others.labels + 10)  # to be told apart
        result, found = paste_objects(image, objects, other, others)
    assert objects.masks is not None and others.masks is not None and found.masks is not None
    size, labels = (image.shape[1], image.shape[2]), found.labels.tolist()
    assert result.shape == image.shape and found.masks.size == size
    assert len(found.masks) == len(found.scores) == len(labels) == len(set(labels))
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= torch.tensor([size[1], size[0]])).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    full, is_pasted = found.masks.full(), found.labels >= 10
    if not is_pasted.any():
        assert torch.equal(result, image) and torch.equal(found.boxes, objects.boxes)
        assert torch.equal(full, objects.masks.full())
        return
    covered = full[is_pasted].any(dim=0)
    rows, columns = min(size[0], other.shape[1]), min(size[1], other.shape[2])
    below = image.clone()
    below[:, :rows, :columns] = other[:, :rows, :columns]
    assert torch.equal(result, torch.where(covered, below, image))
    for label, mask in zip(others.labels.tolist(), others.masks.full(), strict=True):
        if label in labels:  # nothing of it is seen beyond its own image
            moved = torch.zeros(size, dtype=torch.bool)
            moved[:rows, :columns] = mask[:rows, :columns]
            assert torch.equal(full[labels.index(label)], moved)
    for label, box, mask in zip(
        objects.labels.tolist(), objects.boxes, objects.masks.full(), strict=True
    ):
        rest = mask & ~covered
        assert (label in labels) == bool(rest.any())
        if label not in labels:
            continue
        place = labels.index(label)
        assert torch.equal(full[place], rest)
        if torch.equal(rest, mask):
            assert torch.equal(found.boxes[place], box)
            continue
        y, x = rest.any(1).nonzero().flatten(), rest.any(0).nonzero().flatten()
        seen = torch.stack([x[0], y[0], x[-1] + 1, y[-1] + 1])
        # Every side is as annotated, or where what is left ends.
        assert ((found.boxes[place] == box) | (found.boxes[place] == seen)).all()
