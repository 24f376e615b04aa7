"""Published names that timm knows, of which each builds a small model of its family here."""

from collections.abc import Callable

import pytest
from torch import nn

from ziggurat import zoo
from ziggurat.backbones.gpvit import GPViT
from ziggurat.backbones.p2t import P2T
from ziggurat.backbones.pvt import PVT
from ziggurat.backbones.pvt_v2 import PVTv2
from ziggurat.backbones.topformer import TopFormer

DIMS = (8, 12, 16, 24)
HEADS = (1, 2, 2, 2)
RATIOS = (2, 2, 2, 2)
DEPTHS = (1, 2, 1, 1)


def small_p2t(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
    return P2T(DIMS, HEADS, RATIOS, DEPTHS, drop_path_rate, in_channels)


def small_pvt(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> PVT:
    return PVT(DIMS, HEADS, RATIOS, DEPTHS, drop_path_rate, in_channels, use_class_token=True)


def small_pvt_v2(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> PVTv2:
    return PVTv2(DIMS, HEADS, RATIOS, DEPTHS, False, drop_path_rate, in_channels)


def small_topformer(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> TopFormer:
    return TopFormer(
        rows=((3, 1, 16, 1), (3, 2, 8, 2), (3, 2, 12, 2), (5, 2, 16, 2), (5, 2, 24, 2)),
        token_rows=(1, 2, 3, 4),
        num_heads=2,
        injection_channels=None,
        semantics_stride=32,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


def small_gpvit(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> GPViT:
    return GPViT(
        embed_dim=24,
        num_heads=12,
        num_group_heads=6,
        num_groups=(0, 4, 0, 0, 2, 0, 0, 2, 0, 0, 2, 0),
        num_stem_convs=0,
        out_indices=(11,),
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
    )


SMALL: dict[str, Callable[..., nn.Module]] = {
    "pvt_tiny": small_pvt,
    "pvt_v2_b0": small_pvt_v2,
    "p2t_tiny": small_p2t,
    "topformer_tiny": small_topformer,
    "gpvit_l1": small_gpvit,
}


@pytest.fixture(autouse=True)
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build the first model of each family small."""
    for name, build in SMALL.items():
        monkeypatch.setitem(zoo.TRUNKS, name, build)


@pytest.fixture(params=["pvt_tiny", "ziggurat_pvt_v2_b0", "p2t_tiny", "topformer_tiny", "gpvit_l1"])
def name(request: pytest.FixtureRequest) -> str:
    """Return what timm calls one model of each family."""
    return str(request.param)
