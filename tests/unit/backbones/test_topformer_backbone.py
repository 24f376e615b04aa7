"""TopFormer: what outputs of whole models do not show."""

from collections.abc import Callable
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ziggurat.backbones.topformer import (
    InvertedResidual,
    TopFormer,
    topformer_base,
    topformer_small,
    topformer_tiny,
)
from ziggurat.layers.semantics import SemanticsAttention, SemanticsBlock, SemanticsInjection

ROWS = ((3, 1, 8, 1), (3, 2, 8, 2), (3, 2, 16, 2), (3, 2, 16, 2), (5, 2, 24, 2))


def mini(injection_channels: int | None = 12, drop_path_rate: float = 0.0) -> TopFormer:
    return TopFormer(
        rows=ROWS,
        token_rows=(1, 2, 3, 4),
        num_heads=2,
        injection_channels=injection_channels,
        semantics_stride=64 if injection_channels else 32,
        drop_path_rate=drop_path_rate,
        in_channels=3,
    )


@pytest.mark.parametrize("size", [(64, 64), (97, 130), (33, 200)])
def test_sides_round_up(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        injected = mini().eval()(torch.empty(1, 3, *size))
        semantics = mini(None).eval()(torch.empty(1, 3, *size))
    assert [tuple(x.shape[2:]) for x in injected] == [
        tuple(-(-side // stride) for side in size) for stride in (8, 16, 32)
    ]
    assert [tuple(x.shape) for x in semantics] == [(1, 64, *(-(-side // 32) for side in size))]


@pytest.mark.parametrize("build", [topformer_tiny, topformer_small, topformer_base])
@pytest.mark.parametrize("injection_channels", [24, None])
def test_outputs_are_as_promised(
    build: Callable[..., TopFormer], injection_channels: int | None
) -> None:
    with torch.device("meta"):
        backbone = build(injection_channels=injection_channels, in_channels=4)
        maps = backbone(torch.empty(2, 4, 128, 192))
    strides = (8, 16, 32) if injection_channels else (32,)
    assert backbone.out_strides == strides
    assert tuple(x.shape[1] for x in maps) == backbone.out_channels
    assert [tuple(x.shape[2:]) for x in maps] == [(128 // s, 192 // s) for s in strides]
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in maps)


def test_a_classifier_reads_the_semantics_of_all_scales() -> None:
    backbone = mini(None).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(backbone.forward_features(images), backbone(images)[0])
    assert backbone.num_features == 8 + 16 + 16 + 24


def test_semantics_have_a_stride_that_the_pyramid_allows() -> None:
    with pytest.raises(ValueError, match="semantics_stride must be 32 or 64, got 16"):
        TopFormer(ROWS, (1, 2, 3, 4), 2, None, 16, 0.0, 3)


def test_attention_has_no_scale_and_cuts_values_before_it_projects() -> None:
    attention = SemanticsAttention(8, num_heads=2).eval()
    x = torch.randn(1, 8, 2, 3)
    with torch.inference_mode():
        q, k, v = (
            layer(x).flatten(2).unflatten(1, (2, -1)).mT
            for layer in (attention.q, attention.k, attention.v)
        )
        mixed = (q @ k.mT).softmax(dim=-1) @ v
        expected = attention.proj(F.relu6(mixed.mT.flatten(1, 2)).unflatten(2, (2, 3)))
        torch.testing.assert_close(attention(x), expected)


def test_semantics_gate_before_they_are_enlarged() -> None:
    inject = SemanticsInjection(4, 6).eval()
    tokens, semantics = torch.randn(1, 4, 4, 6), 4 * torch.randn(1, 4, 2, 3)
    with torch.inference_mode():
        gate = F.relu6(inject.gate(semantics) + 3) / 6
        shift = inject.shift(semantics)
        gate, shift = (
            F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            for x in (gate, shift)
        )
        expected = inject.local(tokens) * gate + shift
        torch.testing.assert_close(inject(tokens, semantics), expected)


@pytest.mark.parametrize(
    ("row", "is_residual", "expands"),
    [
        ((3, 1, 8, 1), True, False),
        ((3, 2, 8, 1), True, True),
        ((3, 2, 12, 1), False, True),
        ((3, 2, 8, 2), False, True),
    ],
)
def test_inverted_residuals_add_where_shapes_allow(
    row: tuple[int, int, int, int], is_residual: bool, expands: bool
) -> None:
    block = InvertedResidual(8, row).eval()
    assert (block.expand is not None) == expands
    nn.init.zeros_(block.project.conv.weight)
    x = torch.randn(1, 8, 5, 5)
    with torch.inference_mode():
        y = block(x)
    assert torch.equal(y, x) if is_residual else not y.any()


def test_initial_values() -> None:
    backbone = topformer_base()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
            values = module.weight.numel()
            expected = sqrt(2 / fan_out)
            assert module.weight.std().item() == pytest.approx(
                expected, abs=5 * expected / sqrt(2 * values)
            ), name
            assert module.bias is None or not module.bias.any(), name
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all(), name
            assert not module.bias.any(), name
            assert (module.eps, module.momentum) == (1e-5, 0.1), name
    biased = [n for n, m in backbone.named_modules() if getattr(m, "bias", None) is not None]
    assert sum(name.endswith("dwconv") for name in biased) == 4


def test_stochastic_depth_grows_from_zero_to_the_rate() -> None:
    with torch.device("meta"):
        backbone = mini(drop_path_rate=0.3)
    blocks = [block for block in backbone.blocks if isinstance(block, SemanticsBlock)]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_checkpointing_changes_no_gradient() -> None:
    backbone = mini().train()
    images = torch.randn(2, 3, 64, 96)
    gradients = []
    for enable in (False, True):
        backbone.set_grad_checkpointing(enable)
        backbone.zero_grad()
        sum(x.square().mean() for x in backbone(images)).backward()
        gradients.append([p.grad.clone() for p in backbone.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(backbone.parameters()))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_injected_maps_export_with_sides_that_vary() -> None:
    backbone = mini().eval()
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.export.export(
            backbone,
            (torch.randn(2, 3, 96, 128),),
            dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
        )
        for size in ((3, 3, 96, 96), (1, 3, 97, 101)):
            images = torch.randn(size)
            for a, b in zip(program.module()(images), backbone(images), strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
