"""PVT v1: what golden values cannot show, sizes, positions and the class token."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ziggurat
from ziggurat.backbones.pvt import PVT, pvt_tiny, resize_positions
from ziggurat.errors import ZigguratError
from ziggurat.layers.feed_forward import FeedForward
from ziggurat.layers.tokens import to_tokens


def mini(
    *, use_class_token: bool = False, drop_path_rate: float = 0.0, in_channels: int = 3
) -> PVT:
    return PVT(
        embed_dims=(8, 12, 16, 24),
        num_heads=(1, 2, 2, 2),
        mlp_ratios=(2, 2, 2, 2),
        depths=(1, 2, 1, 1),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        use_class_token=use_class_token,
    )


def test_epsilons_are_those_of_the_published_models() -> None:
    with torch.device("meta"):
        backbone = pvt_tiny(use_class_token=True)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.LayerNorm):
            is_larger = "patch_embed" in name or "reduction" in name
            assert module.eps == (1e-5 if is_larger else 1e-6), name


def test_initial_values() -> None:
    backbone = pvt_tiny(use_class_token=True)
    values = dict(backbone.named_parameters())
    for name, value in values.items():
        module, _, kind = name.rpartition(".")
        owner = backbone.get_submodule(module)
        if kind in ("pos_embed", "cls_token") or (isinstance(owner, nn.Linear) and value.ndim == 2):
            assert value.std().item() == pytest.approx(0.02, rel=0.15), name
        elif isinstance(owner, nn.Linear):
            assert not value.any(), name
        elif isinstance(owner, nn.LayerNorm):
            assert (value == (kind == "weight")).all(), name
        else:  # PyTorch's own: uniform up to 1 / sqrt(fan_in)
            assert isinstance(owner, nn.Conv2d)
            bound = owner.weight[0].numel() ** -0.5
            assert 0.8 * bound < value.abs().max().item() <= bound, name


def test_drop_path_grows_linearly_to_the_last_block() -> None:
    backbone: Any = mini(drop_path_rate=0.4)
    blocks = [block for stage in backbone.stages for block in stage.blocks]
    assert isinstance(blocks[0].drop_path, nn.Identity)
    rates = [block.drop_path.drop_prob for block in blocks[1:]]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_images_may_have_other_channels() -> None:
    maps = mini(in_channels=5)(torch.randn(1, 5, 32, 32))
    assert maps[0].shape == (1, 8, 8, 8)


def test_feed_forward_uses_the_exact_gelu() -> None:
    mlp = FeedForward(4, 8)
    x = torch.randn(1, 4, 2, 3)
    expected = mlp.fc2(F.gelu(mlp.fc1(to_tokens(x)), approximate="none"))
    torch.testing.assert_close(to_tokens(mlp(x)), expected, atol=0, rtol=0)


@pytest.mark.parametrize("size", [(32, 32), (63, 95), (97, 101)])
@pytest.mark.parametrize("use_class_token", [False, True])
def test_sides_are_rounded_down(size: tuple[int, int], use_class_token: bool) -> None:
    maps = mini(use_class_token=use_class_token)(torch.randn(2, 3, *size))
    for features, channels, stride in zip(maps, (8, 12, 16, 24), (4, 8, 16, 32), strict=True):
        assert features.shape == (2, channels, size[0] // stride, size[1] // stride)
        assert features.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(31, 64), (64, 31)])
def test_images_that_leave_no_token_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ZigguratError, match=f"at least 32 x 32 pixels, got {size[0]} x {size[1]}"):
        mini()(torch.randn(1, 3, *size))


def test_positions_are_interpolated_bilinearly_from_the_learned_grid() -> None:
    positions = torch.randn(1, 16, 3)
    resized = resize_positions(positions, (2, 6))
    grid = positions.mT.unflatten(2, (4, 4))
    expected = F.interpolate(grid, size=(2, 6), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized, expected.flatten(2).mT)
    torch.testing.assert_close(resize_positions(positions, (4, 4)), positions, atol=0, rtol=0)


def added_positions(stage: Any, height: int, width: int) -> torch.Tensor:
    """What a stage adds to the map of its patches, as tokens."""
    x = torch.zeros(1, stage.patch_embed.proj.in_channels, height, width)
    stage.blocks = nn.ModuleList()
    with_positions: torch.Tensor = stage(x)
    return to_tokens(with_positions - stage.patch_embed(x))


@pytest.mark.parametrize(
    ("index", "size", "expected"),
    [
        (0, (224, 224), (56, 56)),
        (0, (112, 448), (56, 56)),  # raster order: as many patches, of another shape
        (0, (96, 128), (24, 32)),
        (1, (56, 56), (28, 28)),
        (1, (112, 112), (56, 56)),  # as many as the first stage has learned: 448 x 448 pixels
        (1, (14, 56), (7, 28)),
        (2, (112, 112), (56, 56)),  # likewise at 896 x 896 pixels
        (3, (14, 28), (7, 14)),
    ],
)
def test_positions_that_a_stage_adds(
    index: int, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    stage: Any = mini().stages[index]
    rows = stage.pos_embed[:, 1:] if index == 3 else stage.pos_embed
    added = added_positions(stage, *size)
    torch.testing.assert_close(added, resize_positions(rows, expected), atol=1e-6, rtol=0)


def test_row_of_the_class_token_is_not_used_without_one() -> None:
    backbone = mini()
    last: Any = backbone.stages[3]
    assert last.pos_embed.shape == (1, 50, 24)
    assert not [name for name in backbone.state_dict() if "cls_token" in name or name[:4] == "norm"]
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = backbone(images)[-1]
        last.pos_embed[:, 0] += torch.randn(24)
        torch.testing.assert_close(backbone(images)[-1], before, atol=0, rtol=0)
        last.pos_embed[:, 1:] += torch.randn(24)
        assert not torch.allclose(backbone(images)[-1], before)


def test_class_token_stands_first_and_is_normed() -> None:
    backbone = mini(use_class_token=True)
    images = torch.randn(2, 3, 64, 96)
    last: Any = backbone.stages[3]
    last.blocks = nn.ModuleList()
    with torch.no_grad():
        tokens = backbone.forward_features(images)
        patches = to_tokens(backbone(images)[-1])
    assert tokens.shape == (2, 1 + 2 * 3, 24)
    first = F.layer_norm(last.cls_token + last.pos_embed[:, :1], (24,), eps=1e-6)
    torch.testing.assert_close(tokens[:, :1], first.expand(2, -1, -1))
    torch.testing.assert_close(tokens[:, 1:], F.layer_norm(patches, (24,), eps=1e-6))


def test_class_token_takes_part_in_attention() -> None:
    backbone = mini(use_class_token=True)
    images = torch.randn(1, 3, 64, 64)
    last: Any = backbone.stages[3]
    with torch.no_grad():
        before = backbone(images)
        last.cls_token += torch.randn(24)
        after = backbone(images)
    torch.testing.assert_close(after[2], before[2], atol=0, rtol=0)
    assert not torch.allclose(after[3], before[3])


def test_without_class_token_features_are_the_last_map() -> None:
    backbone = mini()
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(backbone.forward_features(images), backbone(images)[-1])


def test_checkpointing_computes_blocks_again_and_changes_nothing() -> None:
    backbone: Any = mini(use_class_token=True)
    images = torch.randn(1, 3, 64, 64)
    calls: list[None] = []
    for stage in backbone.stages:
        for block in stage.blocks:
            block.attn.register_forward_hook(lambda *_: calls.append(None))
    gradients, counts = [], []
    for enable in (False, True):
        backbone.set_grad_checkpointing(enable)
        backbone.zero_grad()
        calls.clear()
        backbone.forward_features(images).square().mean().backward()
        gradients.append([p.grad for p in backbone.parameters()])
        counts.append(len(calls))
    assert counts == [5, 10]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("pvt_tiny", 13.229),
        ("pvt_small", 24.486),
        ("pvt_medium", 44.208),
        ("pvt_large", 61.369),
        ("pvt_huge_v2", 304.95),
    ],
)
def test_parameters_are_those_of_the_official_models(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(name)
    count = sum(p.numel() for p in model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=5e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("use_class_token", [False, True])
def test_it_exports_with_variable_sizes(use_class_token: bool) -> None:
    backbone = mini(use_class_token=use_class_token).eval()
    sides = torch.export.Dim("height", min=64, max=2048), torch.export.Dim("width", min=64)
    with torch.no_grad():
        program = torch.export.export(
            backbone,
            (torch.randn(2, 3, 96, 128),),
            dynamic_shapes=({0: torch.export.Dim("batch"), 2: sides[0], 3: sides[1]},),
        )
        for size in ((64, 97), (224, 224), (448, 448)):
            images = torch.randn(1, 3, *size)
            for a, b in zip(program.module()(images), backbone(images), strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("use_class_token", [False, True])
def test_it_compiles_without_graph_breaks(use_class_token: bool) -> None:
    backbone = mini(use_class_token=use_class_token).eval()
    compiled = torch.compile(
        backbone.forward_features, fullgraph=True, dynamic=True, backend="eager"
    )
    with torch.no_grad():
        for size in ((64, 97), (224, 224), (112, 448)):
            images = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(images), backbone.forward_features(images))
