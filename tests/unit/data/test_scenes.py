"""Shapes and scenes: what is covered, hidden, truncated and annotated."""

import math

import numpy as np
import pytest

from ziggurat.data import scenes
from ziggurat.data.scenes import MIN_VISIBLE, make_scene
from ziggurat.data.shapes import CLASSES, Patch, Pose, cover

CIRCLE, RING, SQUARE = (CLASSES.index(name) for name in ("circle", "ring", "square"))


def _square(left: int, top: int, side: int) -> Patch:
    return Patch(np.ones((side, side), dtype=np.float32), left, top)


def test_a_circle_covers_its_area() -> None:
    patch = cover(CIRCLE, Pose(30.0, 40.0, 20.0, 0.0, 1.0))
    assert patch.coverage.sum() == pytest.approx(math.pi * 19**2, rel=0.01)
    ys, xs = np.nonzero(patch.coverage >= 0.5)
    assert (xs.mean() + patch.left + 0.5, ys.mean() + patch.top + 0.5) == pytest.approx(
        (30.0, 40.0), abs=0.3
    )


def test_a_ring_has_a_hole() -> None:
    patch = cover(RING, Pose(0.0, 0.0, 20.0, 0.0, 1.0))
    assert patch.coverage[-patch.top, -patch.left] == 0
    assert patch.coverage[-patch.top, -patch.left + 16] == 1


def test_edges_are_soft() -> None:
    coverage = cover(SQUARE, Pose(20.0, 20.0, 12.0, 0.3, 1.0)).coverage
    assert ((coverage > 0) & (coverage < 1)).sum() > 20


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_a_patch_holds_the_whole_shape_in_any_pose(label: int) -> None:
    for angle in np.linspace(0, 6, 7):
        coverage = cover(label, Pose(5.3, -2.7, 9.0, float(angle), 1.3)).coverage
        border = np.concatenate([coverage[0], coverage[-1], coverage[:, 0], coverage[:, -1]])
        assert border.max() < 0.5
        assert coverage.max() == 1


def test_masks_are_what_is_seen() -> None:
    canvas = scenes._Canvas(np.random.default_rng(0), (40, 60))
    canvas.add(SQUARE, [_square(10, 10, 10)], is_crowd=False)
    canvas.add(CIRCLE, [_square(15, 10, 10)], is_crowd=False)  # hides half of the first
    canvas.add(RING, [_square(56, 30, 16)], is_crowd=False)  # 4 x 10 of 16 x 16 are inside
    scene = scenes._finish(canvas, 0)
    first, second = scene.objects
    assert first.mask.sum() == 50
    assert first.visible == 0.5
    assert second.mask.sum() == 100
    assert not (first.mask & second.mask).any()
    # Too little is seen of the ring to annotate it, but its pixels are still a ring's.
    assert (scene.label_map == RING + 1).sum() == 40
    assert {found.label for found in scene.objects} == {SQUARE, CIRCLE}


def test_an_object_that_is_almost_hidden_is_not_annotated() -> None:
    canvas = scenes._Canvas(np.random.default_rng(0), (40, 40))
    canvas.add(SQUARE, [_square(20, 20, 10)], is_crowd=False)
    canvas.add(CIRCLE, [_square(10, 10, 10)], is_crowd=False)
    canvas.add(RING, [_square(10, 10, 10)], is_crowd=False)
    assert [found.label for found in scenes._finish(canvas, 0).objects] == [SQUARE, RING]


def test_a_place_is_refused_that_would_hide_too_much() -> None:
    canvas = scenes._Canvas(np.random.default_rng(0), (40, 40))
    canvas.add(SQUARE, [_square(10, 10, 10)], is_crowd=False)
    assert canvas.is_place_free(_square(18, 10, 10), [0.25])
    assert not canvas.is_place_free(_square(17, 10, 10), [0.25])
    assert not canvas.is_place_free(_square(34, 10, 20), [0.25])  # most of it outside


@pytest.mark.parametrize("size", [(32, 32), (32, 150), (100, 33), (160, 160)])
def test_scenes_of_any_size_are_consistent(size: tuple[int, int]) -> None:
    for seed in range(12):
        main = seed % len(CLASSES)
        scene = make_scene(np.random.default_rng(seed), size, main)
        assert scene.image.shape == (*size, 3)
        assert scene.image.std() > 1
        assert scene.objects[0].label == main
        assert scene.objects[0].visible > 0.8
        taken = np.zeros(size, dtype=int)
        for found in scene.objects:
            assert found.visible >= MIN_VISIBLE
            assert (scene.label_map[found.mask] == found.label + 1).all()
            taken += found.mask
        assert taken.max() == 1


def test_there_are_crowds_overlaps_and_truncated_objects() -> None:
    made = [make_scene(np.random.default_rng(seed), (48, 48), 0) for seed in range(50)]
    objects = [found for scene in made for found in scene.objects]
    assert any(found.is_crowd for found in objects)
    assert sum(found.visible < 0.9 for found in objects) > 10
    assert {found.label for found in objects} == set(range(len(CLASSES)))
