"""Contact sheets: every picture is there, with its annotations."""

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.data.preview import Preview
from ziggurat.types import Detections, ObjectMasks
from ziggurat.visualize.contact_sheet import contact_sheet
from ziggurat.visualize.draw import READABLE_SIDE, class_colour

GREY = (90, 90, 90)


def _has_colour(image: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == colour).all(axis=2).any())


def _rows_of(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    rows: np.ndarray = (np.asarray(image) == colour).all(axis=2).any(axis=1)
    return rows


def test_boxes_and_masks_are_drawn() -> None:
    masks = torch.zeros(1, 30, 40, dtype=torch.bool)
    masks[0, 12:18, 12:25] = True
    box = torch.tensor([[10.0, 10.0, 30.0, 20.0]])
    objects = Detections(box, torch.ones(1), torch.tensor([1]), ObjectMasks.from_full(masks))
    image = Image.new("RGB", (40, 30), GREY)
    sheet = contact_sheet([("title", [Preview(image, "a.jpg", ("cat", "dog"), objects)])])
    assert _has_colour(sheet, class_colour(1))
    assert not _has_colour(sheet, class_colour(0))
    without = Preview(
        image, "a.jpg", ("cat", "dog"), Detections(box, torch.ones(1), objects.labels)
    )
    assert (np.asarray(sheet) != np.asarray(contact_sheet([("title", [without])]))).any()


def test_an_image_without_objects_stays_as_it_is() -> None:
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    sheet = contact_sheet([("", [Preview(Image.new("RGB", (9, 9), GREY), "", ("cat",), nothing)])])
    assert _has_colour(sheet, GREY)


def test_label_maps_are_laid_over_and_named() -> None:
    labels = np.full((20, 20), 255, dtype=np.uint8)
    labels[:10] = 0
    picture = Preview(Image.new("RGB", (20, 20), GREY), "a.jpg", ("cloud",), label_map=labels)
    sheet = contact_sheet([("", [picture])])
    assert _has_colour(sheet, class_colour(0))  # in the legend
    # The picture has 20 rows of 24 pixels, the upper 10 of them a cloud.
    top = sheet.height - np.flatnonzero(_rows_of(sheet, GREY)[::-1])[0] - READABLE_SIDE
    column = np.asarray(sheet)[top : top + READABLE_SIDE, READABLE_SIDE // 2]
    assert (column[245:] == GREY).all()
    assert not (column[:235] == GREY).all(axis=1).any()


def test_a_data_set_has_its_own_colours() -> None:
    labels = np.zeros((20, 20), dtype=np.uint8)
    image = Image.new("RGB", (20, 20), GREY)
    picture = Preview(image, "a.jpg", ("cloud",), label_map=labels, palette=((1, 2, 250),))
    sheet = contact_sheet([("", [picture])])
    assert _has_colour(sheet, (1, 2, 250))
    assert not _has_colour(sheet, class_colour(0))


def test_rows_are_as_high_as_their_highest_picture() -> None:
    wide = Preview(Image.new("RGB", (100, 20), GREY), "wide", ())
    high = Preview(Image.new("RGB", (20, 100), GREY), "high", ())
    low_sheet = contact_sheet([("", [wide] * 5)])
    high_sheet = contact_sheet([("", [wide] * 4 + [high])])
    assert low_sheet.width == high_sheet.width > 4 * READABLE_SIDE
    assert high_sheet.height - low_sheet.height == READABLE_SIDE - READABLE_SIDE // 5


def test_long_names_are_shortened() -> None:
    picture = Preview(Image.new("RGB", (20, 20), GREY), "x" * 500, ())
    assert contact_sheet([("y" * 500, [picture])]).width < 2 * READABLE_SIDE


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([("empty", [])])
