"""The colours of the classes on a photo, and what a large photo takes."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from ziggurat.visualize import label_overlay
from ziggurat.visualize.label_overlay import draw_labels
from ziggurat.visualize.visible_labels import NOTHING

CLASSES = ("road", "sky")
COLOURS = np.array([[128, 64, 128], [70, 130, 180]])
GREY = 100


def _photo(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.full((height, width, 3), GREY, dtype=np.uint8))


def test_classes_cover_the_photo_and_nothing_leaves_it() -> None:
    labels = np.zeros((600, 500), dtype=np.uint8)
    labels[:, 200:] = 1
    labels[500:] = NOTHING
    drawn = np.asarray(draw_labels(_photo(600, 500), labels, CLASSES, COLOURS))
    road, sky = (np.round(0.45 * GREY + 0.55 * colour) for colour in COLOURS)
    assert np.abs(drawn[10, 10] - road).max() <= 1
    assert np.abs(drawn[10, 400] - sky).max() <= 1
    assert drawn[550, 10].tolist() == [GREY] * 3
    assert np.abs(drawn[10, 199] - 0.4 * road).max() <= 1  # the border is dark


def test_rows_at_once_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (600, 500)).astype(np.uint8)
    together = draw_labels(_photo(600, 500), labels, CLASSES, COLOURS)
    monkeypatch.setattr(label_overlay, "ROWS_AT_ONCE", 7)
    assert draw_labels(_photo(600, 500), labels, CLASSES, COLOURS).tobytes() == together.tobytes()


def test_a_large_photo_takes_a_few_bytes_a_pixel() -> None:
    photo, labels = _photo(2000, 2000), np.zeros((2000, 2000), dtype=np.uint8)
    tracemalloc.start()
    try:
        draw_labels(photo, labels, CLASSES, COLOURS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * labels.size  # real numbers of the whole photo alone would be 12


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="must have the size of the image, 6 x 5"):
        draw_labels(_photo(6, 5), np.zeros((5, 6), dtype=np.uint8), CLASSES, COLOURS)
