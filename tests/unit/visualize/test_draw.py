"""Overlays: boxes where they belong, labels that can be read and do not cover each other."""

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.types import ClassScores, Detections, ObjectMasks
from ziggurat.visualize import draw, text
from ziggurat.visualize.draw import class_colour, draw_classes, draw_detections

CLASSES = ("cell", "star")


def grey(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (90, 90, 90))


def objects(boxes: list[list[float]], labels: list[int] | None = None) -> Detections:
    count = len(boxes)
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.linspace(0.9, 0.5, count),
        torch.tensor(labels or [0] * count, dtype=torch.int64),
    )


def has_colour(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(image) == colour).all(axis=2)


def test_box_is_drawn_at_its_pixels_in_the_colour_of_its_class() -> None:
    picture = draw_detections(grey(600, 500), objects([[100, 150, 300, 400]], [1]), CLASSES)
    assert picture.size == (600, 500)
    drawn = has_colour(picture, class_colour(1))
    rows, columns = np.nonzero(drawn[150:, :])
    assert (columns.min(), columns.max()) == (100, 299)
    assert rows.max() + 150 == 399
    assert not has_colour(picture, class_colour(0)).any()
    # The middle of the object stays visible.
    assert picture.getpixel((200, 300)) == (90, 90, 90)


def test_small_images_are_enlarged_by_a_whole_factor() -> None:
    picture = draw_detections(grey(64, 48), objects([[8, 8, 40, 40]]), CLASSES)
    assert picture.size == (512, 384)
    columns = np.nonzero(has_colour(picture, class_colour(0))[320 - 2])[0]
    assert columns.min() == 64
    assert columns.max() == 319


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (5000, 40)])
def test_odd_shapes_are_drawn(size: tuple[int, int]) -> None:
    picture = draw_detections(grey(*size), objects([[0, 0, *size]]), CLASSES)
    assert picture.width % size[0] == 0
    assert max(picture.size) >= draw.READABLE_SIDE


def test_input_is_unchanged_and_nothing_found_draws_nothing() -> None:
    image = grey(500, 500)
    picture = draw_detections(image, objects([]), CLASSES)
    assert picture.tobytes() == image.tobytes()
    draw_detections(image, objects([[10, 10, 90, 90]]), CLASSES)
    assert image.tobytes() == grey(500, 500).tobytes()


def test_labels_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[draw.Rectangle] = []
    monkeypatch.setattr(draw, "_write_label", lambda *args: places.append(args[1]))
    boxes = [[20.0 * i, 10.0 * i, 20.0 * i + 60, 10.0 * i + 50] for i in range(40)]
    draw_detections(grey(640, 480), objects(boxes), CLASSES)
    assert len(places) >= 15
    for index, first in enumerate(places):
        for second in places[:index]:
            assert not draw._overlap(first, second)
        assert 0 <= first[0] < first[2] <= 640
        assert 0 <= first[1] < first[3] <= 480


def test_scores_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    monkeypatch.setattr(draw, "_write_label", lambda *args: texts.append(args[2]))
    found = objects([[100, 100, 200, 200]])
    draw_detections(grey(500, 500), found, CLASSES)
    draw_detections(grey(500, 500), found, CLASSES, show_scores=False)
    assert texts == ["cell 0.90", "cell"]


def test_masks_tint_their_pixels() -> None:
    mask = torch.zeros(1, 500, 500, dtype=torch.bool)
    mask[0, 200:300, 200:300] = True
    found = objects([[200, 200, 300, 300]])
    masks = ObjectMasks.from_full(mask)
    found = Detections(found.boxes, found.scores, found.labels, masks)
    picture = draw_detections(grey(500, 500), found, CLASSES)
    assert picture.getpixel((250, 250)) != (90, 90, 90)
    assert picture.getpixel((400, 400)) == (90, 90, 90)


def test_classes_stand_below_the_image() -> None:
    scores = ClassScores(torch.tensor([0.75, 0.25]))
    picture = draw_classes(grey(600, 500), scores, CLASSES)
    assert picture.width == 600
    assert picture.crop((0, 0, 600, 500)).tobytes() == grey(600, 500).tobytes()
    panel = picture.crop((0, 500, 600, picture.height))
    first = has_colour(panel, class_colour(0)).any(axis=0).sum()
    second = has_colour(panel, class_colour(1)).any(axis=0).sum()
    assert first == pytest.approx(3 * second, rel=0.05)


def test_scores_that_are_no_numbers_have_empty_bars() -> None:
    picture = draw_classes(grey(600, 500), ClassScores(torch.tensor([torch.nan] * 2)), CLASSES)
    panel = picture.crop((0, 500, 600, picture.height))
    assert not any(has_colour(panel, class_colour(label)).any() for label in range(2))


def test_long_names_are_cut() -> None:
    font = text.font(12)
    short = text.shorten("a name of a class that is much too long", font, 80)
    assert short.endswith("…")
    assert font.getlength(short) <= 80
    assert text.shorten("cat", font, 80) == "cat"


def test_colours_of_neighbouring_classes_differ() -> None:
    colours = [class_colour(label) for label in range(200)]
    assert len(set(colours)) == 200
    for first, second in zip(colours, colours[1:], strict=False):
        assert max(abs(a - b) for a, b in zip(first, second, strict=True)) > 30
