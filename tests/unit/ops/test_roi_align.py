"""RoIAlign by weighted sums of pixels equals torchvision's operator."""

import pytest
import torch
import torchvision.ops
from torch import Tensor

from ziggurat.ops.roi_align import REGIONS_AT_ONCE, roi_align


def draw_regions(count: int) -> Tensor:
    """Regions in two images of 64 x 48 pixels, some of which leave them."""
    corner = torch.rand(count, 2) * torch.tensor([56.0, 72.0]) - 8
    boxes = torch.cat([corner, corner + 40 * torch.rand(count, 2)], dim=1)
    return torch.cat([torch.randint(2, (count, 1)).float(), boxes], dim=1)


def both(
    level: Tensor, regions: Tensor, size: int, scale: float, ratio: int, aligned: bool = True
) -> list[Tensor]:
    """Values and gradients of ours, then of torchvision's."""
    results = []
    for is_ours in (True, False):
        leaf = level.clone().requires_grad_()
        if is_ours:
            cut = roi_align(leaf, regions, size, scale, ratio, aligned=aligned)
        else:
            cut = torchvision.ops.roi_align(leaf, regions, size, scale, ratio, aligned=aligned)
        (cut * torch.linspace(-1, 2, size)).sum().backward()
        assert leaf.grad is not None
        results += [cut.detach(), leaf.grad]
    return results


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("size", "scale"), [(7, 0.25), (14, 0.5), (1, 0.125), (2, 1.0)])
def test_equals_torchvision(
    size: int, scale: float, aligned: bool, ratio: int, memory_format: torch.memory_format
) -> None:
    level = torch.randn(2, 3, round(64 * scale), round(48 * scale))
    level = level.contiguous(memory_format=memory_format)
    regions = draw_regions(REGIONS_AT_ONCE + 5)
    ours, our_gradient, expected, gradient = both(level, regions, size, scale, ratio, aligned)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(our_gradient, gradient, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    "box",
    [
        (5.0, 6.0, 5.0, 6.0),  # empty
        (9.0, 9.0, 3.0, 4.0),  # turned inside out
        (-90.0, -90.0, -40.0, -50.0),  # outside
        (-500.0, 3.0, 900.0, 5.0),  # long and thin
        (0.0, 0.0, 48.0, 64.0),  # the whole image
        (3.2, 4.1, 3.3, 4.2),  # within a pixel
    ],
)
@pytest.mark.parametrize(("ratio", "aligned"), [(0, True), (2, True), (2, False)])
def test_odd_regions(box: tuple[float, ...], ratio: int, aligned: bool) -> None:
    regions = torch.cat([torch.tensor([[1.0, *box]]), draw_regions(3)])
    ours, our_gradient, expected, gradient = both(
        torch.randn(2, 3, 16, 12), regions, 7, 0.25, ratio, aligned
    )
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(our_gradient, gradient, atol=1e-4, rtol=1e-5)


def test_map_of_one_pixel() -> None:
    ours, _, expected, _ = both(torch.randn(2, 3, 1, 1), draw_regions(4), 2, 1 / 64, 0)
    torch.testing.assert_close(ours, expected)


def test_without_regions_the_map_stays_in_the_graph() -> None:
    level = torch.randn(1, 3, 4, 4, requires_grad=True)
    cut = roi_align(level, torch.zeros(0, 5), 7, 1.0, 0)
    assert cut.shape == (0, 3, 7, 7)
    cut.sum().backward()
    assert level.grad is not None and not level.grad.any()


def test_half_precision_is_summed_in_single() -> None:
    level, regions = torch.randn(2, 3, 16, 12).bfloat16(), draw_regions(4)
    cut = roi_align(level, regions, 7, 0.25, 0)
    exact = roi_align(level.float(), regions, 7, 0.25, 0)
    assert cut.dtype == torch.bfloat16
    assert torch.equal(cut, exact.bfloat16())


@pytest.mark.parametrize(("size", "scale", "ratio"), [(7, 0.25, 0), (2, 1.0, 1)])
def test_a_region_that_is_no_number_stays_alone(size: int, scale: float, ratio: int) -> None:
    regions = draw_regions(3)
    regions[1, 3] = torch.nan
    cut = roi_align(torch.randn(2, 3, 64, 48), regions, size, scale, ratio)
    assert cut[[0, 2]].isfinite().all() and not cut[1].isfinite().all()


def test_positions_are_exact_where_torchvisions_operator_stands_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # as on other devices
    level = torch.randn(1, 3, 8, 256).bfloat16()
    regions = torch.tensor([[0.0, 801.5, 3.0, 813.5, 15.0]])  # 800 and 812 in bfloat16
    cut = roi_align(level, regions, 2, 0.25, 2)
    exact = torchvision.ops.roi_align(level.float(), regions, 2, 0.25, 2, aligned=True)
    assert torch.equal(cut, exact.bfloat16())
