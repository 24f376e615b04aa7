"""Average precision by the rules of Cityscapes, on masks that can be counted by hand."""

import math

import numpy as np
import pytest

from ziggurat.data.object_maps import find_regions
from ziggurat.errors import ZigguratError
from ziggurat.metrics.base import Report
from ziggurat.metrics.cityscapes import cityscapes_report
from ziggurat.metrics.coco_counts import FoundObjects
from ziggurat.metrics.coco_truth import read_truth

SIZE = (40, 100)
Window = tuple[int, int, int, int]
"""Top, left, height, width."""


def mask(window: Window) -> dict[str, object]:
    top, left, height, width = window
    pixels = np.zeros(SIZE, dtype=np.uint8)
    pixels[top : top + height, left : left + width] = 1
    return find_regions(pixels, without=(0,))[1].segmentation


def report(
    true: list[Window],
    found: list[tuple[float, Window]],
    *,
    crowds: tuple[Window, ...] = (),
    ignored: Window | None = None,
) -> Report:
    image: dict[str, object] = {"id": 1, "height": SIZE[0], "width": SIZE[1]}
    if ignored is not None:
        image["ignored"] = mask(ignored)
    objects = [(window, 0) for window in true] + [(window, 1) for window in crowds]
    annotations = [
        {
            "image_id": 1,
            "category_id": 5,
            "bbox": [0, 0, 1, 1],
            "iscrowd": crowd,
            "segmentation": mask(window),
        }
        for window, crowd in objects
    ]
    categories = [{"id": 5, "name": "car"}, {"id": 6, "name": "bus"}]
    content = {"images": [image], "annotations": annotations, "categories": categories}
    rows = np.array([[1, 0, 0, 1, 1, score, 5] for score, _ in found]).reshape(-1, 7)
    texts = tuple(str(mask(window)["counts"]) for _, window in found)
    objects_found = {1: FoundObjects(rows, texts, SIZE)}
    truth = read_truth(content, with_masks=True)
    return cityscapes_report(truth, objects_found, [5, 6, None], ["car", "bus", "tram"])


A, B, FAR = (0, 0, 10, 20), (20, 0, 10, 20), (20, 50, 10, 20)


def test_all_found_is_one_and_nothing_found_is_zero() -> None:
    whole = report([A, B], [(0.9, A), (0.8, B)])
    assert whole.numbers == {"Cityscapes_AP": 1.0, "Cityscapes_AP50": 1.0}
    assert whole.per_class == [
        {"class": "car", "objects": 2, "Cityscapes_AP": 1.0, "Cityscapes_AP50": 1.0},
        {"class": "bus", "objects": 0, "Cityscapes_AP": None, "Cityscapes_AP50": None},
    ]
    assert whole.primary == "Cityscapes_AP"
    assert report([A, B], []).value == 0


def test_the_curve_is_summed_with_the_steps_at_both_sides() -> None:
    # The sure one is a hit (recall 1/2, precision 1), the other wrong (1/2, 1/2), the end (0, 1):
    # steps from 1/2 to 1/2, 1/2 to 0 and 1/2 to 0, halved, meet 1/2, 1 and 1.
    assert report([A, B], [(0.9, A), (0.8, FAR)]).value == pytest.approx(0.5)
    # The other way round: (1/2, 1/2), (0, 0), (0, 1).
    assert report([A, B], [(0.8, A), (0.9, FAR)]).value == pytest.approx(0.125)


def test_the_second_match_of_an_object_is_wrong() -> None:
    # (1, 2/3), (1/2, 1/2), (1/2, 1) and the end (0, 1), each with a step of 1/4.
    expected = pytest.approx((2 / 3 + 1 / 2 + 1 + 1) / 4)
    assert report([A, B], [(0.9, A), (0.8, A), (0.7, B)]).value == expected
    assert report([A, B], [(0.8, A), (0.9, A), (0.7, B)]).value == expected


def test_an_overlap_at_the_threshold_is_no_match() -> None:
    half = report([A], [(0.9, (0, 0, 10, 10))])
    assert half.numbers["Cityscapes_AP50"] == 0
    more = report([A], [(0.9, (0, 0, 10, 11))])
    assert more.numbers == {"Cityscapes_AP50": 1.0, "Cityscapes_AP": 0.1}


@pytest.mark.parametrize(
    ("true", "crowds", "ignored"),
    [
        ([A, (20, 50, 9, 11)], (), None),  # 99 pixels
        ([A], (FAR,), None),
        ([A], (), FAR),
    ],
)
def test_what_need_not_be_found_is_no_mistake(
    true: list[Window], crowds: tuple[Window, ...], ignored: Window | None
) -> None:
    there = (20, 50, 9, 11)
    assert report(true, [(0.8, A)], crowds=crowds, ignored=ignored).value == 1
    assert report(true, [(0.8, A), (0.9, there)], crowds=crowds, ignored=ignored).value == 1
    # More than half of these pixels are somewhere else.
    away = (20, 50 - 12, 9, 23)
    numbers = report(true, [(0.8, A), (0.9, away)], crowds=crowds, ignored=ignored).numbers
    assert numbers["Cityscapes_AP50"] == pytest.approx(0.25)


def test_no_masks_and_no_images() -> None:
    content = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 5, "name": "car"}]}
    truth = read_truth(content, with_masks=False)
    with pytest.raises(ZigguratError, match="are about masks, and boxes alone"):
        cityscapes_report(truth, {1: FoundObjects(np.zeros((0, 7)))}, [5], ["car"])
    content["images"] = [{"id": 1, "height": 4, "width": 5}]
    truth = read_truth(content, with_masks=True)
    with pytest.raises(ZigguratError, match="no image was evaluated"):
        cityscapes_report(truth, {}, [5], ["car"])
    nothing = cityscapes_report(truth, {1: FoundObjects(np.zeros((0, 7)))}, [5], ["car"])
    assert math.isnan(nothing.value)


@pytest.mark.parametrize(
    "ignored", [3, {"size": [4, 5], "counts": [3]}, {"size": [5, 4], "counts": [20]}]
)
def test_ignored_pixels_that_are_none(ignored: object) -> None:
    image = {"id": 1, "height": 4, "width": 5, "ignored": ignored}
    content = {"images": [image], "annotations": [], "categories": [{"id": 5, "name": "car"}]}
    with pytest.raises(ZigguratError, match="'ignored' of image 1 cannot be read"):
        read_truth(content, with_masks=True)
