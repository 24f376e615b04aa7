"""Region-based heads train on whatever a data set holds."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ziggurat.heads.cascade_mask_rcnn import STAGES, CascadeMaskRCNNHead
from ziggurat.heads.faster_rcnn import FasterRCNNHead
from ziggurat.heads.fused_mask import FusedMaskHead
from ziggurat.heads.mask_rcnn import MaskRCNNHead
from ziggurat.heads.roi_box import POOLED_SIDE as BOX_SIDE
from ziggurat.heads.roi_box import BoxHead, BoxOutput
from ziggurat.heads.roi_mask import POOLED_SIDE as MASK_SIDE
from ziggurat.heads.roi_mask import MaskHead, mask_targets
from ziggurat.heads.roi_samples import RegionSampler
from ziggurat.heads.rpn import RPN, RPNSettings
from ziggurat.layers.roi_pooling import RoIPooling
from ziggurat.ops.anchors import AnchorGrid
from ziggurat.ops.matching import BACKGROUND, IGNORED
from ziggurat.systems.panet import BOX_BETA, panet_boxes, panet_masks
from ziggurat.systems.plan import Plan
from ziggurat.types import Detections, ObjectMasks

STRIDES = (4, 8, 16, 32, 64)
SIZE = (64, 96)
CHANNELS = 4


def mask_rcnn(num_classes: int) -> MaskRCNNHead:
    rpn, box_head = RPN(CHANNELS, STRIDES), BoxHead(CHANNELS, num_classes)
    boxes = FasterRCNNHead(rpn, box_head, RoIPooling(STRIDES[:-1], BOX_SIDE))
    mask_head = MaskHead(CHANNELS, num_classes)
    return MaskRCNNHead(boxes, mask_head, RoIPooling(STRIDES[:-1], MASK_SIDE))


def cascade(num_classes: int) -> CascadeMaskRCNNHead:
    return CascadeMaskRCNNHead(
        RPN(CHANNELS, STRIDES, RPNSettings(is_inside_only=True, box_beta=1 / 9)),
        [BoxHead(CHANNELS, num_classes, num_linears=1, stds=stage.stds) for stage in STAGES],
        [MaskHead(CHANNELS, num_classes) for _ in STAGES],
        STRIDES[:-1],
    )


def panet(num_classes: int) -> MaskRCNNHead:
    plan = Plan("resnet50", num_classes, CHANNELS)
    return panet_masks(panet_boxes(STRIDES, plan, "4conv1fc"), STRIDES, plan)


def levels(images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sides = [(-(-SIZE[0] // s), -(-SIZE[1] // s)) for s in STRIDES]
    return [
        torch.randn(images, CHANNELS, *side, generator=generator).requires_grad_() for side in sides
    ]


def objects(count: int, side: float, num_classes: int) -> Detections:
    generator = torch.Generator().manual_seed(count)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([90.0 - side, 60.0 - side])
    boxes = torch.cat([corner, corner + side], dim=1)
    windows = torch.cat([corner.long(), torch.full((count, 2), max(1, int(side)))], dim=1)
    pixels = torch.ones(int(windows[:, 2:].prod(dim=1).sum()), dtype=torch.bool)
    labels = torch.randint(num_classes, (count,), generator=generator)
    return Detections(boxes, torch.ones(count), labels, ObjectMasks(pixels, windows, SIZE))


@pytest.mark.parametrize("build", [mask_rcnn, cascade, panet])
@pytest.mark.parametrize(
    ("count", "side", "num_classes"),
    [(0, 20.0, 3), (3, 20.0, 1), (3, 20.0, 1203), (1000, 6.0, 3), (4, 1.0, 3)],
    ids=["no objects", "one class", "1203 classes", "1000 objects", "tiny"],
)
def test_a_step_on_anything(
    build: Callable[[int], MaskRCNNHead | CascadeMaskRCNNHead],
    count: int,
    side: float,
    num_classes: int,
) -> None:
    torch.manual_seed(0)
    head, maps = build(num_classes), levels()
    targets = [objects(count, side, num_classes), objects(0, side, num_classes)]
    losses = head.loss(head(maps), targets, [SIZE] * 2)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)
    if not count:
        assert all(
            not loss.detach().any() for name, loss in losses.items() if name.startswith("mask")
        )


@pytest.mark.parametrize("build", [mask_rcnn, cascade, panet])
def test_an_untrained_head_decodes(
    build: Callable[[int], MaskRCNNHead | CascadeMaskRCNNHead],
) -> None:
    torch.manual_seed(0)
    head = build(3).eval()
    with torch.inference_mode():
        found = head.decode(head(levels()), [SIZE, (60, 90)], [(128, 192), (30, 45)])
    assert [one.masks.size for one in found if one.masks is not None] == [(128, 192), (30, 45)]
    for one, (height, width) in zip(found, [(128, 192), (30, 45)], strict=True):
        assert len(one) <= 100
        assert (one.boxes[:, 2] <= width + 1e-3).all()
        assert (one.boxes[:, 3] <= height + 1e-3).all()
        assert (one.scores[:-1] >= one.scores[1:]).all()


@pytest.mark.parametrize("is_rounded", [False, True])
def test_anchors_that_touch_the_border_are_inside_in_detectron_only(is_rounded: bool) -> None:
    grid = AnchorGrid((8.0,), (1.0,), is_rounded=is_rounded)
    rpn = RPN(CHANNELS, (4,), RPNSettings(is_inside_only=True, anchors=grid))
    raw, anchors = rpn([torch.zeros(1, CHANNELS, 24, 32)]), grid.level((24, 32), 4)
    corner = 12 * 32 + 20
    width, height = anchors[corner, 2:].int().tolist()
    one = torch.ones(1)
    target = Detections(anchors[corner : corner + 1], one, one.long())
    matches = rpn.match(raw, anchors, target, (height, width))
    assert int(matches[corner]) == (0 if is_rounded else IGNORED)
    assert int(matches[corner - 8 * 33]) == BACKGROUND  # within the border
    assert matches[corner + 1] == matches[corner + 32] == IGNORED  # beyond it


def test_masks_are_needed_to_train_masks() -> None:
    target = objects(2, 20.0, 3)
    sample = RegionSampler().draw(
        [target.boxes], [Detections(target.boxes, target.scores, target.labels)], 3
    )[0]
    with pytest.raises(ValueError, match="trained on objects with masks, got boxes only"):
        mask_targets(sample)


def test_two_fully_connected_layers_learn_without_objects_as_well() -> None:
    torch.manual_seed(0)
    head, maps = panet_boxes(STRIDES, Plan("resnet50", 3, CHANNELS), "2fc"), levels()
    losses = head.loss(head(maps), [objects(0, 20.0, 3)] * 2, [SIZE] * 2)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    gradients = {name: parameter.grad for name, parameter in head.box_head.named_parameters()}
    learns = gradients["linears.0.linear.weight"]
    assert learns is not None and learns.any()
    with torch.inference_mode():
        assert len(head.eval().decode(head(levels()), [SIZE] * 2)) == 2


def test_large_errors_of_a_box_count_as_they_are_and_small_ones_squared() -> None:
    box = torch.tensor([[0.0, 0.0, 20.0, 20.0]])
    target = Detections(box, torch.ones(1), torch.tensor([0]))
    [sample] = RegionSampler(is_forced=False).draw([torch.zeros(0, 4)], [target], 1)
    head = BoxHead(CHANNELS, 1, beta=BOX_BETA)
    logits = torch.zeros(1, 2)
    for error, expected in ((3.0, 3.0 - BOX_BETA / 2), (0.1, 0.1**2 / 2 / BOX_BETA)):
        deltas = torch.tensor([[error, 0.0, 0.0, 0.0]])
        _, loss = head.loss(BoxOutput(logits, deltas), [sample])
        assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_short_floats_do_not_overflow(dtype: torch.dtype) -> None:
    target = objects(2, 20.0, 80)
    [sample] = RegionSampler().draw([target.boxes], [target], 1)
    count = len(sample.labels)
    deltas = torch.full((count, 4 * 80), 65504.0, dtype=dtype)
    losses = BoxHead(CHANNELS, 80).loss(BoxOutput(torch.zeros(count, 81), deltas), [sample])
    assert all(loss.isfinite() for loss in losses)


def test_the_whole_view_of_a_mask_is_added_to_every_class_and_never_negative() -> None:
    torch.manual_seed(0)
    head = FusedMaskHead(8, 3, nn.BatchNorm2d).eval()
    regions = torch.randn(2, 8, 14, 14)
    for parameter in head.whole.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        drawn = head(regions)
        head.whole.bias[5] = 2.0  # in the first row, the sixth pixel
        head.whole.bias[29] = -2.0
        both = head(regions)
    assert drawn.shape == (2, 3, 28, 28)
    difference = both - drawn
    torch.testing.assert_close(difference[:, :, 0, 5], torch.full((2, 3), 2.0))
    difference[:, :, 0, 5] = 0
    assert not difference.any()
