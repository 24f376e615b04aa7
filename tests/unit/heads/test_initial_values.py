"""Convolutions of heads begin as those of OpenMMLab's do."""

import math
from collections.abc import Callable

import pytest
from torch import nn

from ziggurat.heads.fcn import FCNHead
from ziggurat.heads.pixel_classifier import PixelClassifier
from ziggurat.heads.roi_box import BoxHead
from ziggurat.heads.segformer import SegFormerHead
from ziggurat.heads.semantic_fpn import SemanticFPNHead
from ziggurat.heads.topformer import TopFormerHead
from ziggurat.heads.upernet import UPerNetHead

HEADS: dict[str, Callable[[], nn.Module]] = {
    "semantic_fpn": lambda: SemanticFPNHead((64, 64), (4, 8), 3, channels=64),
    "upernet": lambda: UPerNetHead((64, 64), 3, channels=64),
    "segformer": lambda: SegFormerHead((64, 64), 3, channels=64),
    "topformer": lambda: TopFormerHead(64, 3, is_depthwise=False),
    "topformer, channel by channel": lambda: TopFormerHead(4096, 3, is_depthwise=True),
    "fcn": lambda: FCNHead((64,), 3, channels=64),
    "boxes": lambda: BoxHead(64, 3, num_convs=2, num_linears=1, num_cells=1),
}


@pytest.mark.parametrize("name", HEADS)
def test_variance_is_two_by_the_fan_out(name: str) -> None:
    head = HEADS[name]()
    last = [part.logits for part in head.modules() if isinstance(part, PixelClassifier)]
    convs = [part for part in head.modules() if isinstance(part, nn.Conv2d) and part not in last]
    assert convs
    for conv in convs:
        fan_out = conv.out_channels * math.prod(conv.kernel_size)
        assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.07)
    for logits in last:
        assert float(logits.weight.detach().std()) == pytest.approx(0.01, rel=0.25)
