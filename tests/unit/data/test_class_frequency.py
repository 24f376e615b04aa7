"""Pixels of classes, counted in label files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ziggurat.data import class_frequency
from ziggurat.data.class_frequency import class_pixels
from ziggurat.data.label_rules import LabelRule

RULE = LabelRule(("sky", "road", "sign"), None, (0, 1, 2), frozenset({255}))


def pair(folder: Path, name: str, labels: list[list[int]]) -> tuple[Path, Path]:
    path = folder / f"{name}.png"
    Image.fromarray(np.array(labels, dtype=np.uint8)).save(path)
    return folder / f"{name}.jpg", path


def test_classes_and_the_images_that_show_them(tmp_path: Path) -> None:
    pairs = [
        pair(tmp_path, "one", [[0, 0, 0], [1, 255, 255]]),
        pair(tmp_path, "two", [[0, 0], [0, 0]]),
    ]
    own, beside = class_pixels(pairs, RULE)
    assert own.tolist() == [7, 1, 0]
    assert beside.tolist() == [8, 4, 0]


def test_files_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, "one", [[0, 1]]), pair(tmp_path, "two", [[1, 1]])]
    pairs[1][1].write_bytes(pairs[1][1].read_bytes()[:20])
    assert class_pixels(pairs, RULE)[0].tolist() == [1, 1, 0]


def test_of_many_files_some_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_frequency, "MOST_FILES", 2)
    pairs = [pair(tmp_path, str(i), [[i // 3]]) for i in range(5)]
    assert class_pixels(pairs, RULE)[0].tolist() == [1, 1, 0]
    assert class_pixels([], RULE)[0].tolist() == [0, 0, 0]
