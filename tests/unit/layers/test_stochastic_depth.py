"""Images that skip a branch are not computed, and the sum is that of timm's layer."""

import pytest
import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from ziggurat.layers.stochastic_depth import add_branch, stochastic_depth


def maps(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def gradients(y: Tensor, x: Tensor, branch: nn.Module) -> list[Tensor]:
    slopes = torch.linspace(-1, 1, y.numel()).view_as(y)
    return [y.detach(), *torch.autograd.grad(y, (x, *branch.parameters()), slopes)]


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.95])
def test_sum_and_gradients_are_those_of_a_mask(probability: float) -> None:
    branch, drop_path = nn.Conv2d(6, 6, 1), stochastic_depth(probability)
    x = maps(5, 6, 3, 4).requires_grad_()
    for seed in range(8):
        torch.manual_seed(seed)
        ours = gradients(add_branch(x, branch, drop_path), x, branch)
        torch.manual_seed(seed)
        masked = gradients(x + drop_path(branch(x)), x, branch)
        assert ours[0].is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(ours, masked)


def test_what_is_skipped_is_not_computed() -> None:
    drop_path = DropPath(0.5)
    seen: list[int] = []

    def branch(part: Tensor) -> Tensor:
        seen.append(len(part))
        return part

    torch.manual_seed(0)
    y = add_branch(torch.ones(64, 1, 1, 1), branch, drop_path)
    assert 0 < seen[0] < 64
    assert int((y == 3).sum()) == seen[0]  # 1 + 1 / 0.5
    assert int((y == 1).sum()) == 64 - seen[0]
    add_branch(torch.ones(64, 1, 1, 1), branch, drop_path.eval())
    assert seen[1] == 64


def test_a_branch_that_nobody_takes_has_gradients() -> None:
    branch, x = nn.Conv2d(2, 2, 1), maps(3, 2, 2, 2).requires_grad_()
    torch.manual_seed(0)
    y, of_x, *of_branch = gradients(add_branch(x, branch, DropPath(0.999)), x, branch)
    assert torch.equal(y, x)
    assert of_x.any()
    assert len(of_branch) == 2
    assert not any(gradient.any() for gradient in of_branch)


def test_maps_may_have_less_precision_than_the_branch() -> None:
    torch.manual_seed(0)
    y = add_branch(torch.ones(8, 1, 1, 1, dtype=torch.bfloat16), torch.Tensor.float, DropPath(0.5))
    assert y.dtype == torch.float32
    assert set(y.flatten().tolist()) == {1.0, 3.0}


def test_another_layer_that_drops_is_called() -> None:
    class Halve(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 2

    x = torch.ones(2, 1, 1, 1)
    assert add_branch(x, nn.Identity(), Halve()).flatten().tolist() == [1.5, 1.5]
    torch.manual_seed(0)
    unscaled = add_branch(torch.ones(64, 1, 1, 1), nn.Identity(), DropPath(0.5, False))
    assert set(unscaled.flatten().tolist()) == {1.0, 2.0}


def test_a_rate_of_nothing_draws_nothing_and_an_empty_batch_is_empty() -> None:
    before = torch.get_rng_state()
    assert torch.equal(
        add_branch(torch.ones(2, 1, 1, 1), nn.Identity(), DropPath(0.0)), 2 * torch.ones(2, 1, 1, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert add_branch(torch.ones(0, 1, 1, 1), nn.Identity(), DropPath(1.0)).shape == (0, 1, 1, 1)


def test_without_the_draw_of_a_device_nothing_waits_for_it() -> None:
    # A meta tensor has no values that could be looked at.
    x = torch.empty(4, 2, 3, 3, device="meta")
    assert add_branch(x, nn.Identity(), DropPath(0.5)).shape == x.shape
