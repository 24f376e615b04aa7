"""Which parameters decay, and how the learning rate follows the batch."""

import pytest
from torch import nn

from ziggurat.config import OptimizerConfig
from ziggurat.config.tree import NoDecay
from ziggurat.engine.optimizer import build_optimizer, parameter_groups, scaled_lr
from ziggurat.errors import ZigguratError
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


@pytest.mark.parametrize("no_decay", [(), ("vectors",), ("norms", "biases")])
def test_every_parameter_of_a_model_is_in_one_group(no_decay: tuple[NoDecay, ...]) -> None:
    model = create_model("p2t_tiny", num_classes=3)
    config = OptimizerConfig(1e-3, no_decay=no_decay)
    optimizer = build_optimizer(model, config, lr=0.5, is_fused=True)
    seen = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(seen) == len(set(seen))
    assert set(seen) == {id(p) for p in model.parameters()}
    assert all(group["lr"] == 0.5 for group in optimizer.param_groups)


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    groups = parameter_groups(model, OptimizerConfig(1e-3))
    assert sum(len(group["params"]) for group in groups) == 2
    model.requires_grad_(False)
    with pytest.raises(ZigguratError, match="no parameter that can be trained"):
        parameter_groups(model, OptimizerConfig(1e-3))
