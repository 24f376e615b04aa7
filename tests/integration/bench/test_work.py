"""Steps do what they say, and their FLOPs are counted right."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from ziggurat.bench.results import Setting
from ziggurat.bench.work import (
    count_flops,
    make_images,
    make_step,
    make_variant,
    stand_in_loss,
)
from ziggurat.errors import ZigguratError
from ziggurat.zoo import create_backbone, create_model

CPU = torch.device("cpu")


class Spy(nn.Module):
    """A linear layer over channels that notes how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)
        self.seen: list[tuple[torch.dtype, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        y: Tensor = self.linear(images.permute(0, 2, 3, 1))
        self.seen.append((y.dtype, torch.is_grad_enabled()))
        return y


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
def test_images(memory_format: str) -> None:
    images = make_images(Setting("fp32", 2, (8, 12)), CPU, memory_format)
    assert images.shape == (2, 3, 8, 12)
    is_last = images.is_contiguous(memory_format=torch.channels_last)
    assert is_last == (memory_format == "channels_last")


@pytest.mark.parametrize("is_training", [False, True])
def test_flops_of_a_convolution_and_its_gradients(is_training: bool) -> None:
    model = nn.Conv2d(3, 6, 3, padding=1, groups=3)
    # 2 images of 4 x 5 pixels, 6 channels of 9 products each, 2 FLOPs a product.
    forward = 2 * 2 * 4 * 5 * 6 * 9
    setting = Setting("fp32", 2, (4, 5), is_training=is_training)
    assert (
        count_flops(model, setting, torch.empty(2, 3, 4, 5)) == (3 if is_training else 1) * forward
    )
    assert next(model.parameters()).device == CPU


@pytest.mark.parametrize(("dtype", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("is_training", [False, True])
def test_a_step_has_the_precision_and_trains_or_not(
    dtype: str, kind: torch.dtype, is_training: bool
) -> None:
    model = Spy()
    before = model.linear.weight.detach().clone()
    setting = Setting(dtype, 2, (4, 4), is_training=is_training)  # type: ignore[arg-type]
    step = make_step(model, make_images(setting, CPU, "contiguous"), setting)
    step()
    step()
    assert model.seen == [(kind, is_training)] * 2
    assert torch.equal(before, model.linear.weight) == (not is_training)
    assert model.linear.weight.dtype == torch.float32
    assert model.linear.weight.grad is None


def test_flops_where_a_part_takes_a_view_of_a_parameter() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.ones(1, 3))
            self.linear = nn.Linear(3, 2)

        def forward(self, images: Tensor) -> Tensor:
            y: Tensor = self.linear(self.token.expand(len(images), -1))
            return y

    images = torch.empty(2, 3, 4, 4)
    assert count_flops(Tokens(), Setting("fp32", 2, (4, 4)), images) == 2 * 2 * 3 * 2


class Raw(NamedTuple):
    """A detector's output in small."""

    logits: list[Tensor]
    boxes: Tensor


def test_loss_counts_every_tensor_once() -> None:
    two, three = torch.full((4,), 2.0), torch.full((2, 2), 3.0)
    assert stand_in_loss(two).item() == 4
    assert stand_in_loss([two, three]).item() == 13
    assert stand_in_loss(Raw([two, two], three)).item() == 17
    assert stand_in_loss({"a": two, "size": (3, "x", None)}).item() == 4


def test_a_compiled_segmenter_still_makes_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        model = create_model("segformer", backbone="pvt_v2_b0")
    compiled: list[bool] = []
    monkeypatch.setattr(model, "compile", lambda dynamic: compiled.append(dynamic))
    assert make_variant(model, "compiled", "fp32") is model
    assert compiled == [False]


def test_variants(p2t_mini: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_backbone(p2t_mini).eval()
    compiled = nn.Identity()
    monkeypatch.setattr(torch, "compile", lambda given, dynamic: compiled)
    assert make_variant(model, "eager", "fp32") is model
    assert make_variant(model, "compiled", "fp32") is compiled
    fast = make_variant(model, "fast", "fp32")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for a, b in zip(fast(images), model(images), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    with pytest.raises(ZigguratError):  # it is a copy for inference
        fast.train()
