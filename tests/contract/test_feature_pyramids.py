"""What the Feature Pyramid Transformer keeps in a graph, and names that it does not know."""

from typing import Any

import pytest
import torch

from ziggurat.errors import ZigguratError
from ziggurat.necks import fpt
from ziggurat.necks.fpt import FeaturePyramidTransformer
from ziggurat.ops import mixture_attention as module

# PyTorch's tracer asks for it by itself where a graph begins again.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "options", [{}, {"formulas": "paper"}, {"formulas": "paper", "window": 3}, {"window": 3}]
)
def test_training_in_a_graph_is_training(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    neck = FeaturePyramidTransformer((4, 6), (4, 8), 16, dropout=0.0, **options).double()
    maps = [torch.randn(1, 4, 9, 7).double(), torch.randn(1, 6, 5, 4).double()]
    gradients = []
    for run in (neck, torch.compile(neck, backend="eager")):
        neck.zero_grad()
        sum(x.square().sum() for x in run(maps)).backward()
        gradients.append([parameter.grad for parameter in neck.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.usefixtures("unchecked")
def test_no_graph_holds_the_maps_of_dropped_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU has no fused kernel for them."""
    monkeypatch.setattr(module, "_by_fused_heads", None)
    neck = FeaturePyramidTransformer((4, 6), (4, 8), 16)
    maps = [torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)]
    sum(x.sum() for x in torch.compile(neck, backend="eager")(maps)).backward()


@pytest.mark.usefixtures("unchecked")
def test_graphs_refuse_what_cannot_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    neck = FeaturePyramidTransformer((4, 6), (4, 8), 16)
    monkeypatch.setattr(fpt, "SMALL_ENOUGH", 0)
    monkeypatch.setattr(fpt, "available_bytes", lambda _: 1000)
    with pytest.raises(ZigguratError, match="are left"):
        torch.compile(neck, backend="eager")([torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["formulas", "norm", "inner_norm"])
def test_unknown_names_are_refused(name: str) -> None:
    options: dict[str, Any] = {name: "others"}
    with pytest.raises(ZigguratError, match=f"unknown {name} 'others'"):
        FeaturePyramidTransformer((4, 6), (4, 8), 16, **options)
