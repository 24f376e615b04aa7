"""Band by band gives what the whole map at once gives, values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.losses import bands
from ziggurat.losses.bands import BandResize, classes_last
from ziggurat.losses.pixels import pixel_cross_entropy, pixel_losses

SIZES = [
    ((4, 5), (16, 20)),
    ((5, 7), (33, 41)),
    ((1, 1), (9, 6)),
    ((9, 8), (5, 3)),
    ((6, 6), (6, 6)),
]


def problem(small: tuple[int, int], large: tuple[int, int]) -> tuple[Tensor, Tensor]:
    logits = (3 * torch.randn(2, 7, *small, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(7, (2, *large), dtype=torch.uint8)
    labels[0, : large[0] // 2] = 255
    return logits, labels


def plain_loss(logits: Tensor, labels: Tensor) -> Tensor:
    resized = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(resized, labels.long(), ignore_index=255, reduction="sum")
    return total / labels.numel()


@pytest.fixture(params=["one band", "bands of one row", "bands of three rows"])
def banded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"one band": 1 << 20, "bands of one row": 1, "bands of three rows": 3 * 20 * 7}
    monkeypatch.setattr(bands, "_CPU_VALUES", values[request.param])


@pytest.mark.usefixtures("banded")
@pytest.mark.parametrize(("small", "large"), SIZES)
def test_rows_are_those_of_the_whole_map(small: tuple[int, int], large: tuple[int, int]) -> None:
    logits, _ = problem(small, large)
    cells = classes_last(logits.detach())
    resize = BandResize(small, large, cells)
    rows = torch.cat([resize.enlarge(cells[0], rows) for rows in resize.bands(7)])
    whole = F.interpolate(logits[:1], size=large, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(rows.permute(2, 0, 1), whole)


@pytest.mark.usefixtures("banded")
@pytest.mark.parametrize(("small", "large"), SIZES)
def test_loss_and_gradient_are_those_of_the_whole_map(
    small: tuple[int, int], large: tuple[int, int]
) -> None:
    logits, labels = problem(small, large)
    expected = plain_loss(logits, labels)
    (slope,) = torch.autograd.grad(expected, logits)
    found = pixel_cross_entropy(logits, labels)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits)[0], slope)


def test_without_gradients_there_is_only_the_loss() -> None:
    logits, labels = problem((4, 5), (16, 20))
    with torch.no_grad():
        loss = pixel_cross_entropy(logits, labels)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain_loss(logits, labels).detach())
    each = pixel_losses(logits, labels)
    assert not each[0, :8].any()
    torch.testing.assert_close(each.mean(), loss)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_logits_are_summed_up_in_32_bits(dtype: torch.dtype) -> None:
    logits, labels = problem((4, 5), (64, 80))
    short = logits.detach().to(dtype).requires_grad_()
    loss = pixel_cross_entropy(short, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain_loss(short.float(), labels))
    (65536 * loss).backward()  # as a gradient scaler does
    assert short.grad is not None
    assert short.grad.dtype == dtype
    assert short.grad.isfinite().all()


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[[[2e4, -2e4]], [[-2e4, 2e4]]]], requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.zeros(1, 2, 16, dtype=torch.uint8))
    loss.backward()
    assert logits.grad is not None
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
