"""Outlines and run lengths of masks, on cases small enough to do by hand."""

import numpy as np

from ziggurat.data.masks import outlines, run_lengths


def _mask(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def test_one_pixel_has_a_square_outline() -> None:
    assert outlines(_mask("...", ".#.")) == ([[1, 1, 2, 1, 2, 2, 1, 2]], False)


def test_corners_between_straight_edges_only() -> None:
    found, has_hole = outlines(_mask("##", "##", "#."))
    assert found == [[0, 0, 2, 0, 2, 2, 1, 2, 1, 3, 0, 3]]
    assert not has_hole


def test_pixels_that_touch_at_a_corner_are_apart() -> None:
    for mask in (_mask("#.", ".#"), _mask(".#", "#.")):
        found, has_hole = outlines(mask)
        assert sorted(len(outline) for outline in found) == [8, 8]
        assert not has_hole


def test_hole_is_told() -> None:
    found, has_hole = outlines(_mask("###", "#.#", "###"))
    assert len(found) == 2
    assert has_hole


def test_hole_at_the_corner_of_the_outside_is_none() -> None:
    found, has_hole = outlines(_mask("###", "#.#", "##."))
    assert len(found) == 1
    assert not has_hole


def test_empty_mask_has_no_outline() -> None:
    assert outlines(_mask("..", "..")) == ([], False)


def test_run_lengths_go_down_the_columns() -> None:
    assert run_lengths(_mask("#.", "##")) == [0, 2, 1, 1]
    assert run_lengths(_mask("..", ".#")) == [3, 1]
    assert run_lengths(_mask("..", "..")) == [4]
