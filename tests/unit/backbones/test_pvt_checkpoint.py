"""PVT v1 files whose position embeddings were learned for another size."""

import pytest
import torch
import torch.nn.functional as F

from ziggurat.checkpoints.pvt import resize_position_embedding
from ziggurat.errors import ZigguratError


def test_position_embedding_is_interpolated_and_the_class_row_kept() -> None:
    value = torch.randn(1, 1 + 12 * 12, 6)
    resized = resize_position_embedding(value, (1, 50, 6))
    assert resized.shape == (1, 50, 6)
    torch.testing.assert_close(resized[:, 0], value[:, 0], atol=0, rtol=0)
    grid = value[:, 1:].mT.unflatten(2, (12, 12))
    expected = F.interpolate(grid, size=(7, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized[:, 1:], expected.flatten(2).mT)


def test_position_embedding_without_class_row() -> None:
    resized = resize_position_embedding(torch.ones(1, 96 * 96, 6), (1, 56 * 56, 6))
    torch.testing.assert_close(resized, torch.ones(1, 56 * 56, 6))


@pytest.mark.parametrize(
    ("rows", "ours", "message"),
    [(12, 49, "12 rows, expected"), (12, 50, "11 rows behind that of the class token")],
)
def test_position_embedding_of_no_square_grid_is_refused(
    rows: int, ours: int, message: str
) -> None:
    with pytest.raises(ZigguratError, match=message):
        resize_position_embedding(torch.randn(1, rows, 4), (1, ours, 4))
