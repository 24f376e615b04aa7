"""Which parameters decay, and how the learning rate follows the batch."""

import pytest
import torch
from torch import nn

from ziggurat.config import OptimizerConfig
from ziggurat.config.optimizer import NoDecay
from ziggurat.engine.optimizer import build_optimizer, parameter_groups, scaled_lr
from ziggurat.errors import ZigguratError
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.zoo import create_model


def test_lr_is_scaled_by_the_images_of_a_step() -> None:
    assert scaled_lr(OptimizerConfig(5e-4, reference_batch=512), 1024) == pytest.approx(1e-3)
    assert scaled_lr(OptimizerConfig(5e-4), 1024) == 5e-4


def test_matrices_decay_and_vectors_do_not() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm(4), nn.Linear(4, 2))
    config = OptimizerConfig(1e-3, weight_decay=0.05, no_decay=("vectors",))
    decaying, others = parameter_groups(model, config)
    assert [tuple(p.shape) for p in decaying["params"]] == [(4, 3, 3, 3), (2, 4)]
    assert [tuple(p.shape) for p in others["params"]] == [(4,), (4,), (4,), (2,)]
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.05, 0.0)


def test_all_may_decay() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2))
    (group,) = parameter_groups(model, OptimizerConfig(1e-3, weight_decay=1e-4, no_decay=()))
    assert len(group["params"]) == 4
    assert group["weight_decay"] == 1e-4


def test_gradient_descent_with_faster_biases() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    config = OptimizerConfig(
        1.0, kind="sgd", bias_lr_factor=2.0, no_decay=("biases", "norms"), weight_decay=1e-4
    )
    optimizer = build_optimizer(model, config, lr=0.05, is_fused=True)
    assert isinstance(optimizer, torch.optim.SGD)
    found = {
        (tuple(p.shape), group["lr"], group["weight_decay"], group["momentum"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    biases, weights, scales = ((4,), 0.1, 0.0, 0.9), ((4, 3, 3, 3), 0.05, 1e-4, 0.9), (4,)
    assert found == {biases, weights, (scales, 0.05, 0.0, 0.9)}


@pytest.mark.parametrize("no_decay", [(), ("vectors",), ("norms", "biases")])
def test_every_parameter_of_a_model_is_in_one_group(no_decay: tuple[NoDecay, ...]) -> None:
    model = create_model("p2t_tiny", num_classes=3)
    config = OptimizerConfig(1e-3, no_decay=no_decay)
    optimizer = build_optimizer(model, config, lr=0.5, is_fused=True)
    seen = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(seen) == len(set(seen))
    assert set(seen) == {id(p) for p in model.parameters()}
    assert all(group["lr"] == 0.5 for group in optimizer.param_groups)


class Parts(nn.Module):
    """A parameter of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.pos_embed = nn.Parameter(torch.ones(1, 4, 2))
        self.backbone.level_embed = nn.Parameter(torch.ones(3, 2))
        self.backbone.cls_token = nn.Parameter(torch.ones(1, 1, 2))
        self.backbone.blocks = nn.ModuleList([nn.LayerNorm(2), nn.BatchNorm2d(2)])
        self.backbone.gamma = nn.Parameter(torch.ones(2))
        self.head = nn.ModuleDict(
            {
                "conv": ConvNorm(2, 2, 3),
                "grouped": ConvNorm(2, 2, 3, norm=lambda channels: nn.GroupNorm(1, channels)),
                "fc": nn.Linear(2, 2),
            }
        )


VECTORS = {
    "backbone.blocks.0.weight",
    "backbone.blocks.0.bias",
    "backbone.blocks.1.weight",
    "backbone.blocks.1.bias",
    "backbone.gamma",
    "head.conv.norm.weight",
    "head.conv.norm.bias",
    "head.grouped.norm.weight",
    "head.grouped.norm.bias",
    "head.fc.bias",
}


@pytest.mark.parametrize(
    ("no_decay", "undecayed"),
    [
        ((), set()),
        (("vectors",), VECTORS),
        (("norms",), {name for name in VECTORS if name.startswith("backbone.blocks")}),
        (("biases",), {name for name in VECTORS if name.endswith("bias")}),
        (("positions",), {"backbone.pos_embed", "backbone.level_embed"}),
        (("tokens", "vectors"), VECTORS | {"backbone.cls_token"}),
    ],
)
def test_kinds_that_do_not_decay(no_decay: tuple[NoDecay, ...], undecayed: set[str]) -> None:
    model = Parts()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, OptimizerConfig(1e-3, no_decay=no_decay))
    assert {names[id(p)] for g in groups if not g["weight_decay"] for p in g["params"]} == undecayed
    assert sorted(names[id(p)] for g in groups for p in g["params"]) == sorted(names.values())


def test_the_backbone_may_learn_slower() -> None:
    model = Parts()
    config = OptimizerConfig(1e-3, no_decay=("biases",), backbone_lr_factor=0.1)
    optimizer = build_optimizer(model, config, lr=0.5, is_fused=False)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5, 0.05, 0.05]
    slow = {id(p) for group in optimizer.param_groups[2:] for p in group["params"]}
    assert slow == {id(p) for p in model.backbone.parameters()}
    assert [group["lr_factor"] for group in optimizer.param_groups] == [1.0, 1.0, 0.1, 0.1]


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    groups = parameter_groups(model, OptimizerConfig(1e-3))
    assert sum(len(group["params"]) for group in groups) == 2
    model.requires_grad_(False)
    with pytest.raises(ZigguratError, match="no parameter that can be trained"):
        parameter_groups(model, OptimizerConfig(1e-3))
