"""Outlines and run lengths of masks, on cases small enough to do by hand."""

import numpy as np
import pytest

from ziggurat.data.masks import (
    mask_from_polygons,
    mask_from_runs,
    outlines,
    run_lengths,
    runs_from_text,
)


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


def test_runs_give_the_mask_back() -> None:
    mask = _mask(".##.", "#..#", "##..")
    assert (mask_from_runs(run_lengths(mask), mask.shape) == mask).all()


@pytest.mark.parametrize("counts", [[3], [5], [1, -1, 4], []])
def test_runs_that_do_not_fill_the_image_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="add up to 2 x 2 pixels"):
        mask_from_runs(counts, (2, 2))


def test_compressed_runs() -> None:
    # 3, 1 fit one digit each; 40 = 8 + 1 * 32 takes two; the fourth count is a difference.
    assert runs_from_text("31") == [3, 1]
    assert runs_from_text("X1") == [40]
    assert runs_from_text("3135") == [3, 1, 3, 6]
    assert runs_from_text("313O") == [3, 1, 3, 0]


@pytest.mark.parametrize(("text", "reason"), [("\x01", "cannot hold"), ("X", "middle of a number")])
def test_damaged_compressed_runs_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        runs_from_text(text)


def test_filled_polygons_cover_their_pixels() -> None:
    filled = mask_from_polygons([[1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0], [7.0, 7.0]], (6, 8))
    assert filled[1:4, 1:5].all()
    assert not filled[5:].any()
    assert not filled[:, 6:].any()
