"""Attention to windows: cells, bands and shifted views give what the formulas give."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.ops import window_attention as module
from ziggurat.ops.channel_attention import channel_attention
from ziggurat.ops.window_attention import window_attention

SIZES = [
    ((8, 6), (4, 3)),
    ((9, 7), (4, 5)),  # cells of unlike many pixels
    ((5, 4), (5, 4)),
    ((3, 2), (5, 7)),  # a coarse map that is the finer one
    ((4, 3), (1, 1)),
]


def draw(*shapes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]


def window_of(x: Tensor, row: int, column: int, window: int) -> Tensor:
    """Return (B, C, K), zeros beyond the border."""
    padded = F.pad(x, (window // 2,) * 4)
    return padded[:, :, row : row + window, column : column + window].flatten(2)


def assert_same(ours: Tensor, formula: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(ours, formula)
    upstream = torch.randn_like(formula)
    expected = torch.autograd.grad(formula, inputs, upstream)
    for mine, theirs in zip(torch.autograd.grad(ours, inputs, upstream), expected, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("fine", "coarse"), SIZES)
@pytest.mark.parametrize("numbers", [2**22, 0])
def test_distances_within_a_window(
    fine: tuple[int, int],
    coarse: tuple[int, int],
    numbers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "NUMBERS_AT_A_TIME", numbers)
    q, k, v = draw((2, 4, *fine), (2, 4, *coarse), (2, 4, *coarse))
    rows = []
    for row in range(fine[0]):
        pixels = []
        for column in range(fine[1]):
            place = row * coarse[0] // fine[0], column * coarse[1] // fine[1]
            distances = q[:, :, row, column, None] - window_of(k, *place, 3)
            weights = (-distances.square().sum(dim=1, keepdim=True)).softmax(dim=2)
            pixels.append((weights * window_of(v, *place, 3)).sum(dim=2))
        rows.append(torch.stack(pixels, dim=2))
    assert_same(window_attention(q, k, v, window=3), torch.stack(rows, dim=2), [q, k, v])


@pytest.mark.parametrize("num_maps", [1, 3])
def test_softmaxes_of_channels_within_a_window(num_maps: int) -> None:
    q, k, v, places, shares = draw(
        (2, 4, 5, 6), (2, 4, 5, 6), (2, num_maps, 4, 5, 6), (4, 9), (num_maps, 9)
    )
    rows = []
    for row in range(5):
        pixels = []
        for column in range(6):
            scores = q[:, :, row, column, None] * (window_of(k, row, column, 3) + places)
            values = [window_of(x, row, column, 3) for x in v.unbind(1)]
            mixed = sum(x * share for x, share in zip(values, shares, strict=True))
            pixels.append((scores.softmax(dim=2) * mixed).sum(dim=2))
        rows.append(torch.stack(pixels, dim=2))
    ours = channel_attention(q, k, v, places=places, shares=shares, window=3)
    assert_same(ours, torch.stack(rows, dim=2), [q, k, v, places, shares])


class Windows(torch.nn.Module):
    """Both kinds, one after the other."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        found = window_attention(q, k, v, window=3)
        nowhere, all_of_it = torch.zeros(4, 9), torch.ones(1, 9)
        return channel_attention(
            found, q, found[:, None], places=nowhere, shares=all_of_it, window=3
        )


def test_exported_programs_compute_the_same() -> None:
    q, k, v = (x.detach().float() for x in draw((1, 4, 9, 7), (1, 4, 4, 5), (1, 4, 4, 5)))
    program = torch.export.export(Windows(), (q, k, v))
    torch.testing.assert_close(program.module()(q, k, v), Windows()(q, k, v))


def test_keys_far_from_zero_lose_no_digits() -> None:
    q, k, v = (x.detach() for x in draw((1, 4, 8, 6), (1, 4, 4, 3), (1, 4, 4, 3)))
    k, q = k + 100, q + 100
    inside = window_attention(q, k, v, window=1)
    wide = window_attention(q.float(), k.float(), v.float(), window=1)
    torch.testing.assert_close(wide.double(), inside, atol=1e-5, rtol=1e-5)


def test_a_window_has_a_middle() -> None:
    q, k, v = draw((1, 4, 4, 4), (1, 4, 2, 2), (1, 4, 2, 2))
    with pytest.raises(ValueError, match="a middle, an odd side, got 4"):
        window_attention(q, k, v, window=4)
