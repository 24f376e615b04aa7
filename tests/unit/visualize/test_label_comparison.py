"""Truth, prediction and difference of label maps: what is wrong shows, what is unknown is dark."""

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.types import ClassMasks, LabelMap
from ziggurat.visualize.label_comparison import WRONG, compare_labels, panel
from ziggurat.visualize.visible_labels import ComparedLabels, compared

COLOURS = np.array([[250, 250, 250], [10, 200, 10], [0, 0, 255]], dtype=np.uint8)
CLASSES = ("sky", "tree", "a class whose name is much longer than the picture is wide" * 3)


def maps() -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros((20, 30), dtype=np.uint8)
    truth[:, 20:] = 255
    found = truth.copy()
    found[:5] = 1
    return truth, found


def both(truth: np.ndarray, found: np.ndarray) -> ComparedLabels:
    return compared(LabelMap(torch.from_numpy(truth)), LabelMap(torch.from_numpy(found)))


def photo(level: int) -> Image.Image:
    return Image.new("RGB", (30, 20), (level, level, level))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_wrong_pixels_stand_out_on_any_photo(level: int) -> None:
    truth, found = maps()
    found[:, 20:] = 2  # where nobody labelled: neither right nor wrong
    pictures = compare_labels(photo(level), both(truth, found), COLOURS)
    difference = np.asarray(pictures.difference).astype(int)
    assert np.abs(difference[:5, :20] - WRONG).max() < 50
    right = difference[5:, :20]
    assert (right == right[..., :1]).all()  # grey
    assert difference[:, 20:].max() <= 64
    assert pictures.labels == (0, 1)


def test_classes_have_their_colours() -> None:
    truth, found = maps()
    pictures = compare_labels(photo(100), both(truth, found), COLOURS)
    assert pictures.truth.getpixel((0, 0)) == (190, 190, 190)
    assert pictures.prediction.getpixel((0, 0)) == (46, 160, 46)
    assert pictures.prediction.getpixel((0, 19)) == (190, 190, 190)
    assert pictures.truth.getpixel((25, 10)) == (25, 25, 25)


def test_the_panel_holds_all_three_and_the_names() -> None:
    truth, found = maps()
    found[0, 0] = 2
    pictures = compare_labels(photo(100), both(truth, found), COLOURS)
    assert pictures.labels == (0, 1, 2)
    drawn = panel(pictures, CLASSES, COLOURS, title="photo.jpg: a title that is wide" * 20)
    # Enlarged by a whole factor, so that captions have room.
    assert drawn.width >= 3 * 180
    levels = np.asarray(drawn).reshape(-1, 3)
    for colour in ((190, 190, 190), (46, 160, 46), (40, 40, 193), (0, 0, 255)):
        assert (levels == colour).all(axis=1).any(), colour


def test_one_pixel_and_nothing_labelled() -> None:
    truth = np.full((1, 1), 255, dtype=np.uint8)
    pictures = compare_labels(Image.new("RGB", (1, 1)), both(truth, truth * 0), COLOURS)
    assert pictures.labels == ()
    assert panel(pictures, CLASSES, COLOURS, title="").width > 3


def test_sizes_must_agree() -> None:
    truth, found = maps()
    with pytest.raises(ValueError, match=r"must have one size, got \(20, 29\), \(20, 30\)"):
        compare_labels(photo(0).crop((0, 0, 29, 20)), both(truth, found), COLOURS)


def test_masks_are_wrong_where_any_class_is_though_the_smallest_is_seen() -> None:
    true = torch.zeros(3, 4, 4, dtype=torch.bool)
    true[0, :, :3] = True  # large
    true[1, 0, 0] = True  # on top of it
    found = true.clone()
    found[0, 0, 0] = False  # hidden below the small one
    found[2, 3, 3] = True  # where there is nothing
    ignored = torch.zeros(4, 4, dtype=torch.bool)
    ignored[1, 1] = True
    found[0, 1, 1] = False  # where nobody labelled
    labels = compared(ClassMasks(true, ignored), ClassMasks(found, ignored & False))
    assert labels.truth[0].tolist() == [1, 0, 0, 255]
    assert np.argwhere(labels.wrong).tolist() == [[0, 0], [3, 3]]
    assert np.argwhere(labels.ignored).tolist() == [[1, 1]]
    pictures = compare_labels(photo(100).crop((0, 0, 4, 4)), labels, COLOURS)
    assert pictures.labels == (0, 1, 2)
    assert pictures.truth.getpixel((3, 0)) == (100, 100, 100)  # no class: the photo
    assert pictures.truth.getpixel((1, 1)) == (25, 25, 25)
    with pytest.raises(TypeError, match="two of a kind"):
        compared(ClassMasks(true, ignored), LabelMap(ignored.long()))
