"""TopFormer's injection on maps of other networks."""

import pytest
import torch

import ziggurat
from ziggurat.necks.semantics_pyramid import WIDEST, SemanticsPyramid


@pytest.mark.parametrize("sizes", [[(16, 20), (8, 10), (4, 5), (2, 3)], [(9, 7), (5, 4), (3, 2)]])
def test_all_but_the_finest_map_are_injected(sizes: list[tuple[int, int]]) -> None:
    channels = [16, 24, 320, 8][: len(sizes)]
    strides = [4, 8, 16, 32][: len(sizes)]
    neck = SemanticsPyramid(channels, strides, 32)
    assert neck.token_channels == tuple(min(c, WIDEST) for c in channels)
    assert neck.out_strides == tuple(strides[1:])
    maps = [torch.randn(2, c, *size) for c, size in zip(channels, sizes, strict=True)]
    out = neck(maps)
    assert [tuple(x.shape) for x in out] == [(2, 32, *size) for size in sizes[1:]]
    sum(x.square().sum() for x in out).backward()
    for name, parameter in neck.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_every_scale_sees_every_other() -> None:
    torch.manual_seed(0)
    neck = SemanticsPyramid([8, 8, 8], [4, 8, 16], 16).eval()
    maps = [torch.randn(1, 8, side, side) for side in (16, 8, 4)]
    changed = [maps[0] + torch.randn_like(maps[0]), *maps[1:]]
    with torch.inference_mode():
        for before, after in zip(neck(maps), neck(changed), strict=True):
            assert not torch.allclose(before, after)


def test_its_blocks_have_the_stochastic_depth_of_the_model() -> None:
    with torch.device("meta"):
        model = ziggurat.create_model("topformer_seg", backbone="p2t_tiny", drop_path_rate=0.1)
    neck = model.neck
    assert isinstance(neck, SemanticsPyramid)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in neck.blocks]
    assert rates == pytest.approx([0.0, 0.1 / 3, 0.2 / 3, 0.1])
