"""PVT v2: what golden values cannot show, sizes and linear attention."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ziggurat
from ziggurat.backbones.pvt_v2 import (
    ConvFeedForward,
    PooledReduction,
    PVTv2,
    init_pvt_v2,
    pvt_v2_b0,
    pvt_v2_b2_li,
)
from ziggurat.errors import ZigguratError


def mini(
    *, use_linear_attention: bool = False, drop_path_rate: float = 0.0, in_channels: int = 3
) -> PVTv2:
    return PVTv2(
        embed_dims=(8, 12, 16, 24),
        num_heads=(1, 2, 2, 2),
        mlp_ratios=(2, 2, 2, 2),
        depths=(1, 2, 1, 1),
        use_linear_attention=use_linear_attention,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def channels_last(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("build", [pvt_v2_b0, pvt_v2_b2_li])
def test_epsilons_are_those_of_the_published_models(build: Any) -> None:
    with torch.device("meta"):
        backbone = build()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.LayerNorm):
            is_larger = "patch_embed" in name or "reduction" in name
            assert module.eps == (1e-5 if is_larger else 1e-6), name


def test_initial_values() -> None:
    backbone = pvt_v2_b2_li()
    for name, value in backbone.named_parameters():
        module, _, kind = name.rpartition(".")
        owner = backbone.get_submodule(module)
        if isinstance(owner, nn.LayerNorm):
            assert (value == (kind == "weight")).all(), name
        elif kind == "bias":
            assert not value.any(), name
        elif isinstance(owner, nn.Conv2d):
            kernel = math.prod(owner.kernel_size)
            expected = math.sqrt(2 / (kernel * owner.out_channels / owner.groups))
            assert value.std().item() == pytest.approx(expected, rel=0.1), name
        else:
            assert isinstance(owner, nn.Linear)
            assert value.std().item() == pytest.approx(0.02, rel=0.05), name


def test_convolutions_without_bias_are_initialised_too() -> None:
    conv = nn.Conv2d(64, 64, 3, bias=False)
    init_pvt_v2(nn.Sequential(conv))
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.05)


def test_drop_path_grows_linearly_to_the_last_block() -> None:
    backbone: Any = mini(drop_path_rate=0.4)
    blocks = [block for stage in backbone.stages for block in stage.blocks]
    assert isinstance(blocks[0].drop_path, nn.Identity)
    rates = [block.drop_path.drop_prob for block in blocks[1:]]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_images_may_have_other_channels() -> None:
    assert mini(in_channels=5)(torch.randn(1, 5, 32, 32))[0].shape == (1, 8, 8, 8)


@pytest.mark.parametrize("use_linear_attention", [False, True])
@pytest.mark.parametrize("size", [(29, 33), (64, 64), (97, 101)])
def test_sides_are_rounded_up(size: tuple[int, int], use_linear_attention: bool) -> None:
    maps = mini(use_linear_attention=use_linear_attention)(torch.randn(2, 3, *size))
    for features, channels, stride in zip(maps, (8, 12, 16, 24), (4, 8, 16, 32), strict=True):
        assert features.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert features.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(28, 64), (64, 28)])
def test_images_without_a_window_of_reduction_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ZigguratError, match=f"at least 29 x 29 pixels, got {size[0]} x {size[1]}"):
        mini()(torch.randn(1, 3, *size))


def test_linear_attention_takes_images_of_any_size() -> None:
    maps = mini(use_linear_attention=True)(torch.randn(1, 3, 1, 5))
    assert [tuple(m.shape[2:]) for m in maps] == [(1, 2), (1, 1), (1, 1), (1, 1)]
    assert all(m.isfinite().all() for m in maps)


@pytest.mark.parametrize("size", [(14, 21), (9, 11), (3, 5)])
def test_pooled_reduction_averages_the_map_to_seven_by_seven(size: tuple[int, int]) -> None:
    reduction = PooledReduction(4)
    x = channels_last(2, 4, *size)
    pooled = F.conv2d(
        F.adaptive_avg_pool2d(x, 7), reduction.conv.weight, reduction.conv.bias
    ).permute(0, 2, 3, 1)
    expected = F.gelu(F.layer_norm(pooled, (4,), eps=1e-5)).permute(0, 3, 1, 2)
    torch.testing.assert_close(reduction(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("use_relu", [False, True])
def test_feed_forward_looks_at_neighbours_between_its_layers(use_relu: bool) -> None:
    mlp = ConvFeedForward(3, 6, use_relu=use_relu)
    x = channels_last(1, 3, 4, 5)
    hidden = F.conv2d(x, mlp.fc1.weight[..., None, None], mlp.fc1.bias)
    hidden = F.relu(hidden) if use_relu else hidden
    hidden = F.gelu(F.conv2d(hidden, mlp.conv.weight, mlp.conv.bias, padding=1, groups=6))
    expected = F.conv2d(hidden, mlp.fc2.weight[..., None, None], mlp.fc2.bias)
    torch.testing.assert_close(mlp(x), expected)


@pytest.mark.parametrize("use_linear_attention", [False, True])
def test_only_linear_attention_pools_and_has_a_relu(use_linear_attention: bool) -> None:
    backbone: Any = mini(use_linear_attention=use_linear_attention)
    for stage in backbone.stages:
        for block in stage.blocks:
            pools = isinstance(block.attn.reduction, PooledReduction)
            assert (pools, block.mlp.use_relu) == (use_linear_attention, use_linear_attention)


def test_every_map_is_normed() -> None:
    for features in mini()(torch.randn(1, 3, 64, 64)):
        torch.testing.assert_close(
            features.mean(dim=1), torch.zeros_like(features[:, 0]), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            features.var(dim=1, unbiased=False), torch.ones_like(features[:, 0]), atol=1e-3, rtol=0
        )


def test_features_of_a_classifier_are_the_last_map() -> None:
    backbone = mini()
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(backbone.forward_features(images), backbone(images)[-1])


def test_checkpointing_computes_blocks_again_and_changes_nothing() -> None:
    backbone: Any = mini()
    images = torch.randn(1, 3, 64, 64)
    calls: list[None] = []
    for stage in backbone.stages:
        for block in stage.blocks:
            block.attn.register_forward_hook(lambda *_: calls.append(None))
    weights = torch.randn(24, 2, 2)
    gradients, counts = [], []
    for enable in (False, True):
        backbone.set_grad_checkpointing(enable)
        backbone.zero_grad()
        calls.clear()
        (weights * backbone.forward_features(images)).sum().backward()
        gradients.append([p.grad for p in backbone.stages.parameters()])
        counts.append(len(calls))
    assert counts == [5, 10]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("pvt_v2_b0", 3.667),
        ("pvt_v2_b1", 14.009),
        ("pvt_v2_b2", 25.363),
        ("pvt_v2_b2_li", 22.554),
        ("pvt_v2_b3", 45.239),
        ("pvt_v2_b4", 62.556),
        ("pvt_v2_b5", 81.956),
    ],
)
def test_parameters_are_those_of_the_official_models(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_it_exports_with_variable_sizes() -> None:
    backbone = mini().eval()
    sides = torch.export.Dim("height", min=64, max=2048), torch.export.Dim("width", min=64)
    with torch.no_grad():
        program = torch.export.export(
            backbone,
            (torch.randn(2, 3, 96, 128),),
            dynamic_shapes=({0: torch.export.Dim("batch"), 2: sides[0], 3: sides[1]},),
        )
        for size in ((64, 97), (101, 320)):
            images = torch.randn(1, 3, *size)
            for a, b in zip(program.module()(images), backbone(images), strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("use_linear_attention", [False, True])
def test_it_compiles_without_graph_breaks(use_linear_attention: bool) -> None:
    backbone = mini(use_linear_attention=use_linear_attention).eval()
    compiled = torch.compile(
        backbone.forward_features, fullgraph=True, dynamic=True, backend="eager"
    )
    with torch.no_grad():
        for size in ((64, 97), (101, 320)):
            images = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(images), backbone.forward_features(images))
