"""Views of an image, and what they say together."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.data.detection import eval_image
from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation, fuse
from ziggurat.inference.views import View, whole
from ziggurat.preprocessing import FitInside
from ziggurat.types import Detections, ObjectMasks

PREPROCESSING = FitInside(short_side=40, long_side=80)


def objects(*rows: tuple[list[float], float, int], masks: torch.Tensor | None = None) -> Detections:
    return Detections(
        torch.tensor([row[0] for row in rows]).reshape(-1, 4),
        torch.tensor([row[1] for row in rows]),
        torch.tensor([row[2] for row in rows], dtype=torch.int64),
        None if masks is None else ObjectMasks.from_full(masks),
    )


def photo(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_views_of_an_image() -> None:
    views = Augmentation(flip=True, scales=(0.5, 1.0)).views((0, 0, 60, 50))
    assert [(view.scale, view.is_mirrored) for view in views] == [
        (0.5, False),
        (0.5, True),
        (1.0, False),
        (1.0, True),
    ]
    assert Augmentation(flip=False).views((0, 0, 60, 50)) == [View((0, 0, 60, 50))]


def test_a_plain_view_is_what_evaluation_sees() -> None:
    image = photo(60, 50)
    sample = View(whole((50, 60))).sample(image, PREPROCESSING)
    torch.testing.assert_close(sample.image, eval_image(image, PREPROCESSING), rtol=0, atol=0)
    assert sample.info.original_size == (50, 60)


def test_a_view_of_a_part_mirrored_and_smaller() -> None:
    image = photo(60, 50)
    sample = View((10, 20, 30, 25), 0.5, is_mirrored=True).sample(image, PREPROCESSING)
    part = Image.fromarray(np.asarray(image)[20:45, 10:40])
    expected = eval_image(part, FitInside(short_side=20, long_side=40)).flip(2)
    torch.testing.assert_close(sample.image, expected, rtol=0, atol=0)
    assert sample.info.original_size == (25, 30)


def test_undoing_a_view() -> None:
    mask = torch.zeros(1, 25, 30, dtype=torch.bool)
    mask[0, 5:9, 2:7] = True
    found = objects(([2.0, 5.0, 7.0, 9.0], 0.5, 1), masks=mask)
    back = View((10, 20, 30, 25), is_mirrored=True).undo(found, (50, 60))
    assert back.boxes.tolist() == [[33, 25, 38, 29]]
    assert back.masks is not None
    assert back.masks.size == (50, 60)
    full = back.masks.full()[0]
    assert full[25:29, 33:38].all()
    assert int(full.sum()) == 20


def test_agreeing_views_give_the_weighted_mean() -> None:
    first = objects(([0.0, 0.0, 10.0, 10.0], 0.9, 2))
    second = objects(([2.0, 0.0, 10.0, 10.0], 0.3, 2))
    fused = fuse([first, second])
    torch.testing.assert_close(fused.boxes, torch.tensor([[0.5, 0.0, 10.0, 10.0]]))
    torch.testing.assert_close(fused.scores, torch.tensor([0.6]))
    assert fused.labels.tolist() == [2]


def test_an_object_that_one_of_three_views_sees_is_a_third_as_sure() -> None:
    nothing = objects()
    fused = fuse([nothing, objects(([0.0, 0.0, 4.0, 4.0], 0.9, 0)), nothing])
    torch.testing.assert_close(fused.scores, torch.tensor([0.3]))


def test_other_classes_and_other_objects_stay_apart() -> None:
    first = objects(([0.0, 0.0, 10.0, 10.0], 0.9, 0), ([0.0, 0.0, 10.0, 9.0], 0.8, 0))
    second = objects(([0.0, 0.0, 10.0, 10.0], 0.7, 1), ([20.0, 0.0, 30.0, 9.0], 0.95, 0))
    fused = fuse([first, second])
    assert fused.labels.tolist() == [0, 0, 0, 1]
    # Best first; two boxes of one view are two objects.
    torch.testing.assert_close(fused.scores, torch.tensor([0.475, 0.45, 0.4, 0.35]))


def test_a_view_gives_a_group_the_box_that_overlaps_most() -> None:
    first = objects(([0.0, 0.0, 10.0, 10.0], 0.9, 0))
    second = objects(([0.0, 0.0, 10.0, 6.0], 0.8, 0), ([0.0, 0.0, 10.0, 10.0], 0.3, 0))
    fused = fuse([first, second])
    torch.testing.assert_close(fused.scores, torch.tensor([0.6, 0.4]))
    torch.testing.assert_close(fused.boxes[0], torch.tensor([0.0, 0.0, 10.0, 10.0]))


def test_masks_are_voted_by_score() -> None:
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, :, :4] = True
    masks[1, :, :3] = True
    masks[2, :, 1:6] = True
    box = [0.0, 0.0, 6.0, 6.0]
    views = [
        objects((box, score, 0), masks=masks[i : i + 1]) for i, score in enumerate((0.6, 0.3, 0.5))
    ]
    fused = fuse(views)
    assert fused.masks is not None
    # Columns have 0.9, 1.4, 1.4, 1.1, 0.5, 0.5 of the 1.4 votes.
    assert fused.masks.full()[0, 0].tolist() == [True] * 4 + [False] * 4


def test_one_view_or_nothing_found() -> None:
    only = objects(([0.0, 0.0, 1.0, 1.0], 0.4, 0))
    assert fuse([only]) is only
    empty = objects(masks=torch.zeros(0, 5, 5, dtype=torch.bool))
    fused = fuse([empty, empty])
    assert len(fused) == 0
    assert fused.masks is not None
    assert len(fused.masks) == 0


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ((), "must be different factors"),
        ((1.0, 1.0), "must be different factors"),
        ((0.0,), "must lie above 0"),
        ((-1.0,), "must lie above 0"),
        ((9.0,), "at most 4, got 9"),
        ((math.nan,), "must lie above 0"),
        ((math.inf,), "must lie above 0"),
    ],
)
def test_bad_scales(scales: tuple[float, ...], message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        Augmentation(scales=scales)
