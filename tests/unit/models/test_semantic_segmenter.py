"""A segmenter's losses and results, for classes that exclude each other and for others."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ziggurat.errors import ZigguratError
from ziggurat.losses.segmentation import SegmentationLoss
from ziggurat.models.semantic_segmenter import SemanticSegmenter, TrainingLogits
from ziggurat.preprocessing import FitAligned
from ziggurat.types import UNLABELLED, ClassMasks, LabelMap, ModelIdentity

K = 3


def segmenter(
    *, overlapping: bool = False, num_classes: int = K, auxiliary_head: nn.Module | None = None
) -> SemanticSegmenter:
    return SemanticSegmenter(
        nn.Identity(),
        nn.Identity(),
        nn.Identity(),
        auxiliary_head,
        pyramid=nn.Identity(),
        identity=ModelIdentity(
            "semantic_segmentation", "segformer", "p2t_tiny", num_classes, overlapping=overlapping
        ),
        classes=tuple(f"class_{k}" for k in range(num_classes)),
        preprocessing=FitAligned(),
    )


def labels() -> list[LabelMap]:
    return [LabelMap(torch.randint(K, (16, 12), dtype=torch.uint8)) for _ in range(2)]


def test_the_auxiliary_head_learns_from_pixels_alone() -> None:
    model, targets = segmenter(), labels()
    main, auxiliary = torch.randn(2, K, 4, 3), torch.randn(2, K, 2, 2)
    plain = model.loss(TrainingLogits(main, auxiliary), targets)
    assert list(plain) == ["pixels", "auxiliary"]
    model.training_loss = SegmentationLoss(dice=1.0, pixels=2.0)
    found = model.loss(TrainingLogits(main, auxiliary), targets)
    assert list(found) == ["pixels", "dice", "auxiliary"]
    torch.testing.assert_close(found["pixels"], 2 * plain["pixels"])
    torch.testing.assert_close(found["auxiliary"], plain["auxiliary"])
    alone = SegmentationLoss()(auxiliary, targets)["pixels"]
    torch.testing.assert_close(found["auxiliary"], 0.4 * alone)


def test_the_auxiliary_head_has_a_weight() -> None:
    model, targets = segmenter(auxiliary_head=nn.AvgPool2d(2)), labels()
    images = torch.randn(2, K, 4, 4)
    published = model.loss(model(images), targets)
    model.training_loss = SegmentationLoss(auxiliary=0.1)
    found = model.loss(model(images), targets)
    torch.testing.assert_close(4 * found["auxiliary"], published["auxiliary"])
    torch.testing.assert_close(found["pixels"], published["pixels"])
    model.training_loss = SegmentationLoss(auxiliary=0.0)
    assert list(model.loss(model(images), targets)) == ["pixels"]
    with pytest.raises(
        ZigguratError,
        match=r"auxiliary = 0\.1 is the weight .* segformer_p2t_tiny has none; give it one with "
        r"`--model.auxiliary_head true`, in Python with `create_model\(\.\.\., auxiliary_head=True",
    ):
        segmenter().training_loss = SegmentationLoss(auxiliary=0.1)


def test_the_cross_entropy_of_the_auxiliary_head_alone() -> None:
    loss = SegmentationLoss(pixels=0.0, dice=1.0, class_weights=(1.0,) * (K - 1) + (5.0,))
    model, targets = segmenter(auxiliary_head=nn.AvgPool2d(2)), labels()
    images = torch.randn(2, K, 4, 4)
    before = model.loss(model(images), targets)
    model.training_loss = loss
    found = model.loss(model(images), targets)
    assert list(found) == ["dice", "auxiliary"]
    assert found["auxiliary"] > before["auxiliary"]
    with pytest.raises(
        ZigguratError,
        match=r"loss\.class_weights would change nothing: loss\.pixels is 0, and segformer_p2t",
    ):
        segmenter().training_loss = loss


@pytest.mark.parametrize("overlapping", [False, True])
def test_padding_of_a_batch_counts_as_ignored_pixels(overlapping: bool) -> None:
    model = segmenter(overlapping=overlapping)
    model.training_loss = SegmentationLoss(dice=1.0, lovasz=1.0, boundary=1.0)
    raw = TrainingLogits(torch.randn(2, K, 8, 8), torch.randn(2, K, 4, 4))
    small: list[ClassMasks] | list[LabelMap]
    padded: list[ClassMasks] | list[LabelMap]
    if overlapping:
        small = [random_masks((20, 24)) for _ in range(2)]
        padded = [
            ClassMasks(F.pad(m.masks, (0, 8, 0, 12)), F.pad(m.ignored, (0, 8, 0, 12), value=True))
            for m in small
        ]
    else:
        small = [LabelMap(torch.randint(K, (20, 24), dtype=torch.uint8)) for _ in range(2)]
        padded = [LabelMap(F.pad(m.labels, (0, 8, 0, 12), value=UNLABELLED)) for m in small]
    found = model.loss(raw, small, [(20, 24)] * 2, padded_size=(32, 32))
    expected = model.loss(raw, padded)
    assert list(found) == ["pixels", "dice", "lovasz", "boundary", "auxiliary"]
    torch.testing.assert_close(found, expected)
    # By default the batch is as large as its largest image.
    assert model.loss(raw, small)["pixels"] != expected["pixels"]


@pytest.mark.parametrize("count", [1, 3])
def test_each_image_has_one_target(count: int) -> None:
    with pytest.raises(ValueError, match=f"one entry an image .*'targets': {count}, 'images': 2"):
        segmenter().loss(torch.randn(2, K, 4, 3), (labels() * 2)[:count])


def random_masks(size: tuple[int, int]) -> ClassMasks:
    return ClassMasks(torch.rand(K, *size) < 0.5, torch.rand(size) < 0.1)


@pytest.mark.parametrize("num_classes", [1, K])
def test_masks_are_where_a_class_is_likely(num_classes: int) -> None:
    model = segmenter(overlapping=True, num_classes=num_classes).eval()
    logits = torch.randn(2, num_classes, 4, 3)
    logits[1, 0] = -1.0  # nowhere
    found = model.decode(logits, [(16, 12), (14, 12)], [(16, 12), (20, 9)])
    expected: list[Tensor] = []
    for x, size, goal in zip(logits, [(16, 12), (14, 12)], [(16, 12), (20, 9)], strict=True):
        whole = F.interpolate(x[None], size=(16, 12), mode="bilinear")[..., : size[0], : size[1]]
        expected.append(F.interpolate(whole, size=goal, mode="bilinear")[0] >= 0)
    for masks, truth in zip(found, expected, strict=True):
        assert isinstance(masks, ClassMasks)
        assert torch.equal(masks.masks, truth)
        assert not masks.ignored.any()


def test_overlapping_classes_learn_from_masks() -> None:
    model = segmenter(overlapping=True)
    model.training_loss = SegmentationLoss(dice=1.0, lovasz=1.0, boundary=1.0)
    targets = [random_masks((16, 12)), random_masks((13, 12))]
    logits = torch.zeros(2, K, 4, 3, requires_grad=True)
    before = torch.stack(list(model.loss(logits, targets).values())).sum()
    (slope,) = torch.autograd.grad(before, logits)
    with torch.no_grad():
        after = torch.stack(list(model.loss(logits - 0.5 * slope, targets).values())).sum()
    assert after < before


def test_one_class_that_excludes_the_others_is_refused() -> None:
    with pytest.raises(ZigguratError, match="expected two classes"):
        segmenter(num_classes=1).loss(torch.zeros(2, 1, 4, 3), labels())


def test_options_stay_with_the_model_that_has_them() -> None:
    first, second = segmenter(), segmenter()
    first.training_loss = replace(first.training_loss, dice=1.0)
    assert second.training_loss == SegmentationLoss()
