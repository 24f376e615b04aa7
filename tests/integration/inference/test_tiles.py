"""Tiles cover the image, and what they find of one object becomes one object."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ziggurat.errors import ZigguratError
from ziggurat.inference.tiles import Tiles, merge_tiles
from ziggurat.inference.views import Region
from ziggurat.types import Detections, ObjectMasks

SIZE = (100, 180)
LEFT: Region = (0, 0, 100, 100)
RIGHT: Region = (80, 0, 100, 100)
WHOLE: Region = (0, 0, 180, 100)


def objects(*rows: tuple[list[float], float, int]) -> Detections:
    return Detections(
        torch.tensor([row[0] for row in rows]).reshape(-1, 4),
        torch.tensor([row[1] for row in rows]),
        torch.tensor([row[2] for row in rows], dtype=torch.int64),
    )


def with_box_masks(found: Detections) -> Detections:
    masks = torch.zeros(len(found), *SIZE, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, found.boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return Detections(found.boxes, found.scores, found.labels, ObjectMasks.from_full(masks))


@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.integers(64, 900),
    st.integers(0, 899),
)
def test_tiles_cover_the_image_and_overlap(
    height: int, width: int, size: int, overlap: int
) -> None:
    tiles = Tiles(size, overlap % size, whole=False)
    if (height // (size - tiles.overlap) + 1) * (width // (size - tiles.overlap) + 1) > 10000:
        return  # covered by other examples, and slow
    regions = tiles.regions((height, width))
    assert len(set(regions)) == len(regions)
    for start, length, side in ((0, 2, width), (1, 3, height)):
        parts = sorted({(region[start], region[start] + region[length]) for region in regions})
        assert parts[0][0] == 0
        assert parts[-1][1] == side
        assert all(end - begin == min(size, side) for begin, end in parts)
        for (_, end), (begin, _) in zip(parts, parts[1:], strict=False):
            assert end - begin >= tiles.overlap


def test_no_more_tiles_than_needed() -> None:
    assert Tiles(100, 20, whole=False).regions((100, 180)) == [LEFT, RIGHT]
    assert Tiles(100, 20).regions((100, 180)) == [WHOLE, LEFT, RIGHT]
    assert len(Tiles(800, 200, whole=False).regions((8000, 8000))) == 13 * 13


def test_an_image_that_fits_into_a_tile_is_looked_at_once() -> None:
    assert Tiles(200, 50).regions((100, 180)) == [WHOLE]
    found = objects(([0.0, 0.0, 9.0, 9.0], 0.4, 0))
    assert merge_tiles([WHOLE], [found], SIZE) is found


def test_an_object_in_the_overlap_is_found_once() -> None:
    left = objects(([84.0, 10.0, 96.0, 30.0], 0.7, 0))
    right = objects(([84.5, 10.0, 96.0, 30.0], 0.8, 0))
    merged = merge_tiles([LEFT, RIGHT], [left, right], SIZE)
    assert merged.boxes.tolist() == [[84.5, 10.0, 96.0, 30.0]]
    torch.testing.assert_close(merged.scores, torch.tensor([0.8]))


def test_a_whole_object_replaces_its_surer_piece() -> None:
    left = objects(([60.0, 10.0, 100.0, 30.0], 0.9, 0))  # ends at the border of its tile
    whole = objects(([60.0, 10.0, 130.0, 30.0], 0.5, 0))
    merged = merge_tiles([WHOLE, LEFT, RIGHT], [whole, left, objects()], SIZE)
    assert merged.boxes.tolist() == [[60.0, 10.0, 130.0, 30.0]]


def test_pieces_are_joined_across_the_border() -> None:
    left = with_box_masks(objects(([40.0, 10.0, 100.0, 30.0], 0.6, 3)))
    right = with_box_masks(objects(([80.0, 12.0, 150.0, 31.0], 0.8, 3)))
    merged = merge_tiles([LEFT, RIGHT], [left, right], SIZE)
    assert merged.boxes.tolist() == [[40.0, 10.0, 150.0, 31.0]]
    torch.testing.assert_close(merged.scores, torch.tensor([0.8]))
    assert merged.labels.tolist() == [3]
    assert merged.masks is not None
    both = torch.zeros(SIZE, dtype=torch.bool)
    both[10:30, 40:100] = both[12:31, 80:150] = True
    torch.testing.assert_close(merged.masks.full()[0], both)


def test_pieces_are_joined_over_many_tiles() -> None:
    regions = Tiles(100, 20, whole=False).regions((100, 500))
    pieces = [objects(([r[0] + 0.0, 5.0, r[0] + 100.0, 45.0], 0.5, 0)) for r in regions]
    merged = merge_tiles(regions, pieces, (100, 500))
    assert merged.boxes.tolist() == [[0.0, 5.0, 500.0, 45.0]]


def test_neighbours_and_other_classes_stay_apart() -> None:
    left = objects(
        ([40.0, 10.0, 100.0, 30.0], 0.6, 0),  # cut
        ([40.0, 60.0, 100.0, 90.0], 0.6, 0),  # cut, at another height
        ([10.0, 10.0, 30.0, 30.0], 0.9, 0),
    )
    right = objects(
        ([80.0, 35.0, 150.0, 55.0], 0.8, 0),  # cut, between the two
        ([80.0, 10.0, 150.0, 30.0], 0.7, 1),  # cut, goes on as the first but is of another class
    )
    merged = merge_tiles([LEFT, RIGHT], [left, right], SIZE)
    assert len(merged) == 5
    assert merged.scores.tolist() == sorted(merged.scores.tolist(), reverse=True)


def test_objects_of_one_tile_are_never_merged() -> None:
    crowd = objects(([10.0, 10.0, 30.0, 30.0], 0.9, 0), ([11.0, 10.0, 31.0, 30.0], 0.8, 0))
    assert len(merge_tiles([LEFT, RIGHT], [crowd, objects()], SIZE)) == 2


def test_a_box_at_the_border_of_the_image_is_not_cut() -> None:
    left = objects(([0.0, 0.0, 90.0, 100.0], 0.5, 0))
    right = objects(([80.0, 0.0, 92.0, 100.0], 0.9, 0))  # its rest, and surer
    merged = merge_tiles([LEFT, RIGHT], [left, right], SIZE)
    assert merged.boxes.tolist() == [[0.0, 0.0, 90.0, 100.0]]


def test_nothing_found() -> None:
    merged = merge_tiles([LEFT, RIGHT], [with_box_masks(objects())] * 2, SIZE)
    assert len(merged) == 0
    assert merged.masks is not None


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [
        (63, 0, "at least 64 pixels a side, got 63"),
        (100, -1, "at least 0 and less than their size of 100 pixels, got -1"),
        (100, 100, "less than their size of 100 pixels, got 100"),
    ],
)
def test_bad_tiles(size: int, overlap: int, message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        Tiles(size, overlap)
