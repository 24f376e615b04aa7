"""P2T: what golden values cannot show, its pooled pyramid on small maps, and what blocks share."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ziggurat.backbones import p2t
from ziggurat.backbones.p2t import P2T, PyramidPoolingAttention, p2t_tiny

RATIOS = (12, 16, 20, 24)


def mini(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
    return P2T(
        embed_dims=(8, 12, 16, 24),
        num_heads=(1, 2, 2, 2),
        mlp_ratios=(2, 2, 2, 2),
        depths=(1, 2, 1, 1),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def test_epsilons_are_those_of_the_published_models() -> None:
    with torch.device("meta"):
        backbone = p2t_tiny()
    seen = set()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.LayerNorm):
            kind = name.rpartition(".")[2]
            seen.add(kind)
            assert module.eps == (1e-6 if kind in ("norm1", "norm2") else 1e-5), name
    assert seen == {"norm", "norm1", "norm2", "pool_norm"}


def pooled(x: Tensor, convs: nn.ModuleList, norm: nn.LayerNorm) -> Tensor:
    """The tokens of the pyramid by torch's own pooling and the convolutions as they are."""
    levels = []
    for ratio, conv in zip(RATIOS, convs, strict=True):
        height, width = (max(1, round(side / ratio)) for side in x.shape[2:])
        level = F.adaptive_avg_pool2d(x, (height, width))
        levels.append((level + conv(level)).flatten(2))
    return F.layer_norm(torch.cat(levels, dim=2).mT, (x.shape[1],), norm.weight, norm.bias, 1e-5)


# Maps of stage 1 for images of 224 x 168, 120 x 72, 32 x 48, 32 x 32 and 4 x 20 pixels. Of the
# second both sides are a tie, 2.5 and 1.5 cells; of the smallest most levels are a single cell.
@pytest.mark.parametrize("size", [(56, 42), (30, 18), (8, 12), (8, 8), (1, 5)])
def test_pyramid_is_that_of_adaptive_pooling(size: tuple[int, int]) -> None:
    attention = PyramidPoolingAttention(8, num_heads=2, pool_ratios=RATIOS)
    convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, groups=8) for _ in RATIOS)
    x = torch.randn(2, 8, *size).contiguous(memory_format=torch.channels_last)
    expected = pooled(x, convs, attention.pool_norm)
    torch.testing.assert_close(attention._pool(x, convs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (40, 64), (1, 5)])
def test_small_images_are_convolved_as_large_ones(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, images = mini().eval(), torch.randn(2, 3, *size)
    with torch.inference_mode():
        maps = backbone(images)
        monkeypatch.setattr(p2t, "_convolve", lambda conv, level: conv(level))
        expected = backbone(images)
    for features, other in zip(maps, expected, strict=True):
        assert features.isfinite().all()
        torch.testing.assert_close(features, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(29, 33), (64, 64), (97, 101)])
def test_sides_are_rounded_up(size: tuple[int, int]) -> None:
    maps = mini(in_channels=5)(torch.randn(2, 5, *size))
    for features, channels, stride in zip(maps, (8, 12, 16, 24), (4, 8, 16, 32), strict=True):
        assert features.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert features.is_contiguous(memory_format=torch.channels_last)


def test_blocks_of_a_stage_share_the_convolutions_of_the_pyramid() -> None:
    backbone: Any = mini()
    names = [name for name, _ in backbone.named_parameters() if "pool_convs" in name]
    assert len(names) == 4 * len(RATIOS) * 2
    assert not any("blocks" in name for name in names)
    calls: list[None] = []
    for conv in backbone.stages[1].pool_convs:
        conv.register_forward_hook(lambda *_: calls.append(None))
    backbone(torch.randn(1, 3, 160, 160))  # 20 x 20 there: no level is a single cell
    assert len(calls) == 2 * len(RATIOS)


def test_heads_share_the_channels_out() -> None:
    with pytest.raises(ValueError, match="must divide dim, got dim=8, num_heads=3"):
        PyramidPoolingAttention(8, num_heads=3, pool_ratios=RATIOS)


def test_drop_path_grows_linearly_to_the_last_block() -> None:
    backbone: Any = mini(drop_path_rate=0.4)
    blocks = [block for stage in backbone.stages for block in stage.blocks]
    assert isinstance(blocks[0].drop_path, nn.Identity)
    rates = [block.drop_path.drop_prob for block in blocks[1:]]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_it_exports_with_variable_sizes() -> None:
    backbone = mini().eval()
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.export.export(
            backbone,
            (torch.randn(2, 3, 224, 256),),
            dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
        ).module()
        for shape in ((1, 3, 161, 161), (2, 3, 161, 320), (3, 3, 301, 170)):
            images = torch.randn(shape)
            for a, b in zip(program(images), backbone(images), strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        # As docs/p2t.md says: here the coarsest level is one cell high.
        with pytest.raises(AssertionError, match="Guard failed"):
            program(torch.randn(1, 3, 160, 224))


def test_checkpointing_computes_blocks_again_and_changes_nothing() -> None:
    backbone: Any = mini()
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
        backbone.forward_features(images).square().sum().backward()
        gradients.append([p.grad for p in backbone.parameters()])
        counts.append(len(calls))
    assert counts == [5, 10]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
