"""The detection pipeline moves boxes with their pixels, whatever the image."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.data.channels import normalize
from ziggurat.data.detection import CropFirst, DetectionTransform, ScaleJitter, eval_image
from ziggurat.data.randomness import seeded
from ziggurat.preprocessing import FitInside
from ziggurat.types import Detections, ObjectMasks

PLAIN = FitInside(
    short_side=64, long_side=96, divisor=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)


def objects(*boxes: tuple[float, float, float, float]) -> Detections:
    count = len(boxes)
    return Detections(
        torch.tensor(boxes).reshape(-1, 4).float(), torch.ones(count), torch.arange(count)
    )


def painted(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), box)
    return image


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("size", [(48, 32), (33, 71), (200, 40), (128, 128)])
def test_the_box_stays_on_its_object(size: tuple[int, int], flip: float, exact: bool) -> None:
    width, height = size
    box = (width // 4, height // 3, width // 2, height - 2)
    transform = DetectionTransform(PLAIN, flip=flip, scales=None, exact_resize=exact)
    image, target = transform(painted(width, height, box), objects(box))
    bright = image[0] > 0.5
    rows, columns = bright.any(1).nonzero().flatten(), bright.any(0).nonzero().flatten()
    seen = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    assert (target.boxes[0] - seen).abs().max() <= 1
    assert image.shape[1] <= 96 and image.shape[2] <= 96
    assert min(image.shape[1:]) <= 64


def test_flipping_twice_is_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 90, 3), dtype=np.uint8)
    target = objects((3.5, 4, 20, 60), (0, 0, 90, 64))
    flipped, moved = DetectionTransform(PLAIN, flip=1.0, scales=None, exact_resize=True)(
        Image.fromarray(pixels), target
    )
    straight, same = DetectionTransform(PLAIN, flip=0.0, scales=None, exact_resize=True)(
        Image.fromarray(pixels), target
    )
    assert torch.equal(flipped.flip(2), straight)
    assert torch.equal(same.boxes, target.boxes)
    assert torch.equal(90 - moved.boxes[:, [2, 0]], target.boxes[:, [0, 2]])
    assert torch.equal(moved.labels, target.labels)


def test_boxes_are_cut_at_the_border() -> None:
    transform = DetectionTransform(PLAIN, flip=0.0, scales=None, exact_resize=True)
    _, target = transform(Image.new("RGB", (90, 64)), objects((-5, -1, 100, 70)))
    assert target.boxes.tolist() == [[0, 0, 90, 64]]


def test_an_image_without_objects() -> None:
    transform = DetectionTransform(PLAIN, flip=1.0, scales=None, exact_resize=True)
    image, target = transform(Image.new("RGB", (45, 32)), objects())
    assert image.shape == (3, 64, 90)
    assert target.boxes.shape == (0, 4)


def test_scales_are_drawn_from_all_and_repeat_with_the_seed() -> None:
    transform = DetectionTransform(PLAIN, flip=0.5, scales=(32, 48, 64), exact_resize=True)
    image = painted(60, 50, (0, 0, 20, 20))

    def draw(seed: int) -> tuple[int, bool]:
        with seeded(seed):
            tensor, target = transform(image, objects((0, 0, 20, 20)))
        return tensor.shape[1], bool(target.boxes[0, 0] > 0)

    drawn = [draw(seed) for seed in range(40)]
    assert {height for height, _ in drawn} == {32, 48, 64}
    assert {is_flipped for _, is_flipped in drawn} == {False, True}
    assert drawn == [draw(seed) for seed in range(40)]


def test_evaluation_image_is_the_transform_without_randomness() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    preprocessing = FitInside(40, 60)
    transform = DetectionTransform(preprocessing, flip=0.0, scales=None, exact_resize=True)
    assert torch.equal(eval_image(image, preprocessing), transform(image, objects())[0])


def test_normalisation_is_channels_last_and_of_the_right_channel() -> None:
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[..., 0] = 255
    tensor = normalize(pixels, FitInside(mean=(0.5, 0.25, 0.1), std=(0.5, 0.25, 0.1)))
    assert tensor.stride() == (1, 9, 3)
    assert torch.allclose(tensor[:, 0, 0], torch.tensor([1.0, -1.0, -1.0]))


def test_blue_comes_first_where_the_model_wants_it() -> None:
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[..., 0] = 255
    wanted = FitInside(mean=(0.5, 0.25, 0.1), std=(0.5, 0.25, 0.1))
    tensor = normalize(pixels, replace(wanted, channel_order="bgr"))
    assert torch.equal(tensor, normalize(pixels, wanted).flip(0))
    assert tensor.stride() == (1, 9, 3)


def published_3x(**changes: object) -> DetectionTransform:
    options: dict[str, Any] = {
        "flip": 0.5,
        "scales": tuple(range(480, 801, 32)),
        "exact_resize": False,
        "crop_first": CropFirst(0.5, (400, 500, 600), (384, 600)),
    }
    return DetectionTransform(FitInside(), **options | changes)


def shapes(transform: DetectionTransform, image: Image.Image, count: int) -> list[tuple[int, int]]:
    found = []
    for number in range(count):
        with seeded(number):
            tensor, _ = transform(image, objects((9, 9, 30, 30)))
        found.append((tensor.shape[1], tensor.shape[2]))
    return found


def test_3x_draws_short_sides_and_cuts_half_of_the_images() -> None:
    found = shapes(published_3x(), Image.new("RGB", (320, 240)), 60)
    uncut = [(h, w) for h, w in found if w == int(h * 320 / 240 + 0.5)]
    assert 20 < len(uncut) < 45
    assert {min(size) for size in uncut} <= set(range(480, 801, 32))
    assert all(min(size) in range(480, 801, 32) or max(size) == 1333 for size in found)


def test_the_part_cut_first_has_a_side_from_the_range() -> None:
    seen: list[tuple[int, int]] = []
    transform = published_3x(
        crop_first=CropFirst(1.0, (400, 500, 600), (384, 600)), scales=(480,), flip=0.0
    )
    resize = transform.resize

    def record(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        seen.append((image.shape[0], image.shape[1]))
        return resize(image, size)

    transform.resize = record
    shapes(transform, Image.new("RGB", (800, 200)), 30)
    cut = seen[1::2]
    # At 1333 pixels long the image is 333 high, below the smallest side: its height stays.
    assert {height for height, _ in cut} == {333}
    assert all(384 <= width <= 600 for _, width in cut)
    assert len({width for _, width in cut}) > 5


def test_gpvit_cuts_large_images() -> None:
    found = shapes(published_3x(max_side=512, flip=0.0), Image.new("RGB", (320, 240)), 20)
    assert max(max(size) for size in found) == 512


def test_jitter_ranges_over_its_factors() -> None:
    transform = DetectionTransform(
        PLAIN, flip=0.0, scales=None, exact_resize=True, jitter=ScaleJitter((0.1, 2.0), 100)
    )
    widths = [width for _, width in shapes(transform, Image.new("RGB", (80, 40)), 80)]
    assert min(widths) < 25 and max(widths) == 100
    assert 20 < widths.count(100) < 60  # factors above 1 are cut: 100 / 190 of them


def test_a_crop_may_leave_no_object() -> None:
    transform = published_3x(crop_first=CropFirst(1.0, (400,), (10, 20)), flip=0.0)
    masks = ObjectMasks.from_full(torch.ones(1, 240, 320, dtype=torch.bool))
    small = objects((0, 0, 2, 2))
    with seeded(1):
        _, target = transform(
            Image.new("RGB", (320, 240)),
            Detections(small.boxes, small.scores, small.labels, masks),
        )
    assert len(target) == 0 and target.masks is not None and len(target.masks) == 0


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="flip must be a probability, got 1.5"):
        DetectionTransform(PLAIN, flip=1.5, scales=None, exact_resize=True)
    for scales in ((), (0, 32)):
        with pytest.raises(ValueError, match="scales must be short sides"):
            DetectionTransform(PLAIN, flip=0.0, scales=scales, exact_resize=True)
