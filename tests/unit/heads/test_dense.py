"""Dense heads learn a step on whatever a data set may hold."""

import pytest
import torch

from ziggurat.errors import ZigguratError
from ziggurat.heads.atss import ATSSHead
from ziggurat.heads.gfl import GFLHead, GFLOutput
from ziggurat.heads.retinanet import RetinaNetHead
from ziggurat.types import Detections

HEADS = (RetinaNetHead, ATSSHead, GFLHead)
STRIDES = (8, 16)


def objects(boxes: torch.Tensor, num_classes: int) -> Detections:
    return Detections(boxes, torch.ones(len(boxes)), torch.arange(len(boxes)) % num_classes)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize(
    ("num_classes", "boxes"),
    [
        (3, torch.zeros(0, 4)),
        (1, torch.tensor([[4.0, 4.0, 60.0, 50.0]])),
        (3, torch.tensor([[10.0, 10.0, 11.0, 11.0], [30.2, 30.2, 30.7, 30.9]])),
        (3, torch.tensor([[8.0, 8.0, 40.0, 40.0]]).expand(1000, 4) + torch.rand(1000, 1) * 20),
        (1203, torch.tensor([[4.0, 4.0, 60.0, 50.0]])),
    ],
    ids=["none", "one_class", "tiny", "thousand", "lvis"],
)
def test_a_step(kind: type, num_classes: int, boxes: torch.Tensor) -> None:
    head = kind(32, STRIDES, num_classes, depth=1)
    levels = [torch.randn(2, 32, 8, 8), torch.randn(2, 32, 4, 4)]
    targets = [objects(boxes, num_classes), objects(boxes[:0], num_classes)]
    losses = head.loss(head(levels), targets, [(64, 64), (60, 50)])
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", HEADS)
def test_detections_lie_in_the_image_best_first(kind: type) -> None:
    head = kind(32, STRIDES, 2, depth=1)
    assert head.cls_logits.bias is not None
    bias = head.cls_logits.bias
    assert bias is not None
    torch.nn.init.constant_(bias, 0.0)
    raw = head([torch.randn(1, 32, 8, 8), torch.randn(1, 32, 4, 4)])
    found = head.decode(raw, [(60, 50)])[0]
    assert 0 < len(found) <= 100
    assert (found.scores.diff() <= 0).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([50.0, 60.0, 50.0, 60.0])).all()


@pytest.mark.parametrize("kind", [ATSSHead, GFLHead])
def test_width_must_suit_the_norms(kind: type) -> None:
    with pytest.raises(ZigguratError, match="multiple of 32"):
        kind(40, STRIDES, 2)


def test_boxes_of_gfl_are_exact_in_mixed_precision() -> None:
    head = GFLHead(32, (8,), 2, depth=1)
    raw = GFLOutput([torch.randn(1, 2, 8, 8)], [3 * torch.randn(1, 4 * 17, 8, 8)])
    (plain,) = head.decode(raw, [(500, 500)])
    with torch.autocast("cpu", torch.bfloat16):
        (mixed,) = head.decode(raw, [(500, 500)])
    assert torch.equal(mixed.boxes, plain.boxes)


@pytest.mark.parametrize("kind", [ATSSHead, GFLHead])
def test_the_smallest_width_sees_a_map_of_one_cell(kind: type[ATSSHead | GFLHead]) -> None:
    torch.manual_seed(0)
    head = kind(32, (128,), 3).eval()
    cells = [torch.randn(1, 32, 1, 1), torch.randn(1, 32, 1, 1)]
    with torch.inference_mode():
        first, second = (head([cell]) for cell in cells)
    # A group norm of one channel a group would leave its bias, whatever the map holds.
    assert not torch.equal(first.cls_logits[0], second.cls_logits[0])
