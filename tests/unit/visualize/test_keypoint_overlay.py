"""Keypoints can be seen on bright and on dark pictures, and only those that are known."""

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.keypoints import Keypoints, Skeleton
from ziggurat.types import Detections
from ziggurat.visualize.draw import draw_detections

FACE = Skeleton(("nose", "left_eye", "right_eye"), ((0, 1), (0, 2)), ((1, 2),))
SIZE = (600, 500)


def drawn(level: int, known: tuple[float, float, float], *, is_true: bool) -> np.ndarray:
    """Draw a face of three points and return how far each pixel is from the plain picture."""
    places = torch.tensor([[300.0, 400.0], [200.0, 150.0], [400.0, 150.0]])
    points = torch.cat([places, torch.tensor(known)[:, None]], dim=1)[None]
    box, label = torch.tensor([[20.0, 20.0, 580.0, 480.0]]), torch.tensor([0])
    faces = Detections(box, torch.ones(1), label, keypoints=Keypoints(points, FACE))
    image = Image.new("RGB", SIZE, (level,) * 3)
    with_points = draw_detections(image, faces, ("face",), show_scores=not is_true)
    without = draw_detections(
        image, Detections(box, torch.ones(1), label), ("face",), show_scores=not is_true
    )
    change = np.asarray(with_points, dtype=int) - np.asarray(without, dtype=int)
    return np.abs(change).max(axis=2)


@pytest.mark.parametrize("level", [0, 60, 128, 200, 255])
def test_points_and_lines_stand_out(level: int) -> None:
    change = drawn(level, (0.9, 0.8, 0.7), is_true=False)
    for x, y in ((300, 400), (200, 150), (400, 150), (250, 275), (350, 275)):
        assert change[y - 5 : y + 6, x - 5 : x + 6].max() >= 100
    assert not change[100:120].any()  # nothing elsewhere


def test_what_is_not_known_is_not_drawn() -> None:
    change = drawn(128, (0.9, 0.8, 0.05), is_true=False)
    assert change[275, 240:260].any()
    assert not change[140:160, 380:420].any()
    assert not change[275, 340:360].any()  # nor the line to it
    assert not drawn(128, (0.0, 0.05, 0.0), is_true=False).any()


def test_true_points_are_drawn_where_labelled() -> None:
    change = drawn(128, (2.0, 1.0, 0.0), is_true=True)
    assert change[395:405, 295:305].any() and change[145:155, 195:205].any()
    assert not change[140:160, 380:420].any()
    seen, hidden = change[400, 300], change[150, 200]
    assert seen != hidden  # a disc and a ring
