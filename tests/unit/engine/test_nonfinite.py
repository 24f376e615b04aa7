"""Where a NaN begins: the module that is named is the one that made it."""

import torch
from torch import Tensor, nn

from ziggurat.engine.nonfinite import NonFinite, first_nonfinite, holds_nan
from ziggurat.types import Detections


class Root(nn.Module):
    """The square root, whose gradient at 0 is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


class Logarithm(nn.Module):
    """The logarithm, which is infinite at 0 itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x.log()


class Residual(nn.Module):
    """A branch beside the identity; gives what it got as well, in a dictionary."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        return {"maps": [x, x + self.branch(x.relu())]}


class Model(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.block = Residual(branch)
        self.last = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block(self.first(x))["maps"][1])


def watch(model: nn.Module, images: Tensor, *, scale: float = 1.0) -> NonFinite | None:
    with first_nonfinite(model) as watched:
        (model(images).sum() * scale).backward()
    assert not any(module._forward_hooks for module in model.modules())
    return watched.found


def at_zero(model: Model) -> Model:
    """Let `first` give nothing but zeros."""
    with torch.no_grad():
        model.first.weight.zero_()
        model.first.bias.zero_()
    return model


def test_a_sound_step_has_none() -> None:
    assert watch(Model(nn.Tanh()), torch.ones(2, 3)) is None


def test_forward_names_the_innermost_module() -> None:
    found = watch(at_zero(Model(nn.Sequential(Logarithm()))), torch.ones(2, 3))
    assert found == NonFinite("block.branch.0", "Logarithm", "output")
    assert str(found) == "in the output of block.branch.0 (Logarithm)"


def test_backward_names_the_module_that_passes_it_on() -> None:
    found = watch(at_zero(Model(nn.Sequential(Root()))), torch.ones(2, 3))
    assert found == NonFinite("block.branch.0", "Root", "gradient")


def test_what_goes_in_is_already_bad() -> None:
    found = watch(Model(nn.Tanh()), torch.full((2, 3), torch.nan))
    assert found == NonFinite("", "Model", "input")
    assert str(found) == "in what goes into the model (Model)"


def test_a_parameter_is_bad() -> None:
    model = Model(nn.Tanh())
    with torch.no_grad():
        model.last.bias.fill_(torch.inf)
    assert watch(model, torch.ones(2, 3)) == NonFinite("last", "Linear", "parameter")


def test_the_loss_is_bad() -> None:
    found = watch(Model(nn.Tanh()), torch.ones(2, 3), scale=torch.inf)
    assert found == NonFinite("last", "Linear", "gradient of output")
    assert str(found) == "in the gradient that comes back to last (Linear)"


def test_a_result_is_no_number() -> None:
    boxes, labels = torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64)
    assert not holds_nan([Detections(boxes, torch.tensor([torch.inf]), labels)])
    assert holds_nan([Detections(boxes, torch.tensor([torch.nan]), labels)])
