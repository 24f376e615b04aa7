"""Losses of label maps on values that a hand can compute, and their options."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.losses.boundary import boundary_loss
from ziggurat.losses.class_balance import median_frequency_weights
from ziggurat.losses.class_masks import stack_masks
from ziggurat.losses.dice import dice_loss
from ziggurat.losses.hard_pixels import hard_pixels
from ziggurat.losses.lovasz import iou_slopes, lovasz_loss
from ziggurat.losses.pixels import pixel_cross_entropy
from ziggurat.losses.segmentation import SegmentationLoss
from ziggurat.types import ClassMasks, LabelMap

EVERYTHING = SegmentationLoss(
    normaliser="labelled",
    class_weights=(1.0, 2.0, 0.5),
    hard_below=0.7,
    dice=1.0,
    lovasz=0.5,
    boundary=0.25,
)
ALONE = {
    "cross entropy": SegmentationLoss(),
    "labelled": SegmentationLoss(normaliser="labelled"),
    "weights": SegmentationLoss(class_weights=(1.0, 2.0, 0.5)),
    "hard": SegmentationLoss(hard_below=0.7, normaliser="labelled"),
    "dice": SegmentationLoss(pixels=0.0, dice=1.0),
    "lovasz": SegmentationLoss(pixels=0.0, lovasz=1.0),
    "boundary": SegmentationLoss(pixels=0.0, boundary=1.0),
    "everything": EVERYTHING,
}


def example(side: int = 16) -> tuple[Tensor, list[LabelMap]]:
    logits = torch.randn(2, 3, side // 4, side // 4, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(2, (2, side, side), dtype=torch.uint8)
    labels[:, :3] = 255
    return logits, [LabelMap(x) for x in labels]


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("options", ALONE.values(), ids=ALONE)
def test_an_ignored_batch_gives_zero_and_finite_gradients(
    options: SegmentationLoss, overlapping: bool
) -> None:
    if overlapping:
        options = replace(options, hard_below=None)
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    nothing = [LabelMap(torch.full((16, 16), 255, dtype=torch.uint8))] * 2
    loss = total(options(logits, nothing, overlapping=overlapping))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("name", ["dice", "lovasz", "boundary"])
@pytest.mark.parametrize("overlapping", [False, True])
def test_gradients_are_slopes(name: str, overlapping: bool) -> None:
    logits, targets = example(8)

    def loss(x: Tensor) -> Tensor:
        return total(ALONE[name](x, targets, overlapping=overlapping))

    assert torch.autograd.gradcheck(loss, (logits,), eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", ALONE.values(), ids=ALONE)
def test_short_logits(options: SegmentationLoss, dtype: torch.dtype) -> None:
    logits, targets = example()
    short = logits.detach().to(dtype).requires_grad_()
    found = total(options(short, targets))
    found.backward()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, total(options(short.detach().float(), targets)))
    assert short.grad is not None
    assert short.grad.isfinite().all()


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("options", ALONE.values(), ids=ALONE)
def test_autocast_changes_nothing(options: SegmentationLoss, overlapping: bool) -> None:
    if overlapping:
        options = replace(options, hard_below=None)
    logits, targets = example()
    single = logits.detach().float().requires_grad_()
    expected = total(options(single, targets, overlapping=overlapping))
    (slope,) = torch.autograd.grad(expected, single)
    with torch.autocast("cpu", torch.bfloat16):
        found = total(options(single, targets, overlapping=overlapping))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, single)[0], slope)


def test_the_default_is_the_published_loss_alone() -> None:
    logits, targets = example()
    labels = torch.stack([target.labels for target in targets])
    losses = SegmentationLoss()(logits, targets)
    assert list(losses) == ["pixels"]
    torch.testing.assert_close(losses["pixels"], pixel_cross_entropy(logits, labels))


def test_every_loss_has_its_name_and_weight() -> None:
    logits, targets = example()
    once = EVERYTHING(logits, targets)
    twice = replace(EVERYTHING, dice=2.0, lovasz=1.0)(logits, targets)
    assert list(once) == ["pixels", "dice", "lovasz", "boundary"]
    torch.testing.assert_close(twice["dice"], 2 * once["dice"])
    torch.testing.assert_close(twice["lovasz"], 2 * once["lovasz"])
    torch.testing.assert_close(twice["boundary"], once["boundary"])


def test_labelled_pixels_divide_if_wanted() -> None:
    labels = torch.tensor([[[0, 1], [255, 255]]])
    loss = pixel_cross_entropy(torch.zeros(1, 4, 2, 2), labels, normaliser="labelled")
    assert loss.item() == pytest.approx(math.log(4))


def test_dice_of_one_class() -> None:
    # Softmax 3/4 and 1/4 at both pixels; class 0 is true at one of them, class 1 nowhere else.
    logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    loss = dice_loss(logits, torch.tensor([[[0, 255]]]))
    assert loss.item() == pytest.approx(1 - 2 * 0.75 / (0.75**2 + 1))


def test_slopes_of_the_iou() -> None:
    # Sorted truth 1, 0, 1: wrong sets of 1, 2 and 3 pixels lose 1/2, 2/3 and all of the IoU.
    found = iou_slopes(torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(found, torch.tensor([1 / 2, 2 / 3 - 1 / 2, 1 - 2 / 3]))


def test_slopes_on_a_device_without_float64(on_mps: Callable[[Tensor], Tensor]) -> None:
    true = (torch.rand(50) < 0.5).float()
    assert torch.equal(iou_slopes(on_mps(true)), iou_slopes(true))


def test_lovasz_of_hard_predictions_is_one_minus_iou() -> None:
    truth, predicted = torch.rand(2, 6, 7) < 0.4, torch.rand(2, 6, 7) < 0.6
    counted = torch.rand(2, 6, 7) < 0.8
    loss = lovasz_loss(predicted.float(), truth, counted)
    both = (truth & predicted & counted).sum() / ((truth | predicted) & counted).sum()
    assert loss.item() == pytest.approx(1 - both.item())


def test_contours_that_agree_cost_nothing_and_far_ones_almost_all() -> None:
    truth = torch.zeros(1, 40, 40, dtype=torch.bool)
    truth[:, 4:14, 4:14] = True
    counted = torch.ones_like(truth)
    assert boundary_loss(truth.float(), truth, counted, width=5).item() == pytest.approx(0)
    near = boundary_loss(truth.roll(2, 2).float(), truth, counted, width=5)
    assert near.item() == pytest.approx(0)
    away = boundary_loss(truth.roll(20, 2).float(), truth, counted, width=5)
    assert away.item() > 0.9


def test_contours_next_to_unlabelled_pixels_do_not_count() -> None:
    truth = torch.zeros(1, 20, 20, dtype=torch.bool)
    truth[:, :, :10] = True
    counted = torch.ones_like(truth)
    counted[:, :, 10:] = False
    assert boundary_loss(torch.zeros(1, 20, 20), truth, counted, width=5).item() == 0


def test_hard_pixels_are_those_below_and_a_share() -> None:
    # The true class has the probabilities 0.9, 0.6, 0.8 and one pixel is ignored.
    p = torch.tensor([0.9, 0.6, 0.8, 0.1])
    logits = torch.stack([p.log(), (1 - p).log()])[None, :, None, :]
    labels = torch.tensor([[[0, 0, 0, 255]]])
    assert hard_pixels(logits, labels, below=0.7, share=0.0).tolist() == [[[0, 1, 0, 0]]]
    assert hard_pixels(logits, labels, below=0.7, share=0.67).tolist() == [[[0, 1, 1, 0]]]
    assert hard_pixels(logits, labels, below=0.1, share=0.0).sum() == 0


def test_hard_pixels_divide_if_labelled_ones_do() -> None:
    p = torch.tensor([0.9, 0.6, 0.8, 0.1])
    logits = torch.stack([p.log(), (1 - p).log()])[None, :, None, :]
    targets = [LabelMap(torch.tensor([[0, 0, 0, 255]], dtype=torch.uint8))]
    options = SegmentationLoss(hard_below=0.7, hard_share=0.0)
    assert options(logits, targets)["pixels"].item() == pytest.approx(-math.log(0.6) / 4)
    labelled = replace(options, normaliser="labelled")
    assert labelled(logits, targets)["pixels"].item() == pytest.approx(-math.log(0.6))


def test_balanced_weights() -> None:
    weights = median_frequency_weights(
        torch.tensor([60, 20, 20, 0]), torch.tensor([100, 100, 50, 0])
    )
    torch.testing.assert_close(weights, torch.tensor([0.4 / 0.6, 0.4 / 0.2, 0.4 / 0.4, 1.0]))
    with pytest.raises(ZigguratError, match="have none; give loss.class_weights as a list"):
        median_frequency_weights(
            torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
        )


def test_overlapping_classes_are_asked_for_one_by_one() -> None:
    masks = torch.rand(2, 9, 8) < 0.5
    ignored = torch.rand(9, 8) < 0.3
    logits = torch.randn(1, 2, 9, 8)
    found = SegmentationLoss(normaliser="labelled", class_weights=(1.0, 3.0))(
        logits, [ClassMasks(masks, ignored)], overlapping=True
    )
    each = F.binary_cross_entropy_with_logits(logits[0], masks.float(), reduction="none")
    expected = (each * torch.tensor([1.0, 3.0])[:, None, None])[:, ~ignored].sum()
    torch.testing.assert_close(found["pixels"], expected / ((~ignored).sum() * 2))


def test_masks_of_several_sizes_are_padded() -> None:
    images = [
        ClassMasks(torch.ones(2, *size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool))
        for size in ((2, 3), (4, 1))
    ]
    masks, counted = stack_masks(images, 2)
    assert masks.shape == (2, 2, 4, 3)
    assert counted.sum() == 6 + 4
    assert masks.sum() == 2 * (6 + 4)
    with pytest.raises(ZigguratError, match="model has 3 classes, but there are masks of 2"):
        stack_masks(images, 3)


def test_a_label_map_says_what_overlapping_classes_are_too() -> None:
    masks, counted = stack_masks([LabelMap(torch.tensor([[0, 1, 255]], dtype=torch.uint8))], 2)
    assert masks.tolist() == [[[[True, False, False]], [[False, True, False]]]]
    assert counted.tolist() == [[[True, True, False]]]


@pytest.mark.parametrize(
    ("options", "num_classes", "overlapping", "message"),
    [
        (
            SegmentationLoss(class_weights=(1.0, 1.0)),
            3,
            False,
            "has 2 numbers, but the model has 3",
        ),
        (SegmentationLoss(hard_below=0.7), 3, True, "hard_below = 0.7 is for classes that exclude"),
        (SegmentationLoss(), 1, False, "nothing to tell apart: expected two classes"),
    ],
)
def test_options_that_do_not_suit_a_model(
    options: SegmentationLoss, num_classes: int, overlapping: bool, message: str
) -> None:
    with pytest.raises(ZigguratError, match=message):
        options.check(num_classes, overlapping=overlapping)


def test_masks_for_exclusive_classes_are_refused() -> None:
    target = ClassMasks(torch.ones(3, 4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool))
    with pytest.raises(TypeError, match="need"):
        SegmentationLoss()(torch.zeros(1, 3, 4, 4), [target])
