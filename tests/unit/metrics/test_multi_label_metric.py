"""Masks that overlap, against hand counts; the sum over processes; wrong results."""

import pickle

import pytest
import torch
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.metrics.multi_label import MultiLabelMetric
from ziggurat.metrics.segmentation import SegmentationMetric
from ziggurat.types import Batch, ClassMasks, ImageInfo, LabelMap

CLASSES = ("road", "wet", "ice")


def masks(*rows: list[int], ignored: list[int] | None = None) -> ClassMasks:
    """Make masks of one row of pixels."""
    nowhere = [0] * len(rows[0])
    return ClassMasks(
        torch.tensor(rows, dtype=torch.bool)[:, None], torch.tensor([ignored or nowhere]).bool()
    )


def batch(*targets: ClassMasks) -> Batch:
    infos = [ImageInfo(number, f"{number}.png", (1, 4)) for number in range(len(targets))]
    return Batch(torch.zeros(len(targets), 3, 1, 1), [(1, 1)] * len(targets), [*targets], infos)


TRUTH = masks([1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], ignored=[0, 0, 0, 1])
FOUND = masks([1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 1])


def test_counts_by_hand() -> None:
    metric = MultiLabelMetric(CLASSES)
    metric.update([FOUND], batch(TRUTH))
    report = metric.compute()
    road, wet, ice = report.per_class
    assert road["pixels"] == 3
    assert road["IoU"] == pytest.approx(2 / 3)
    assert road["accuracy"] == pytest.approx(2 / 3)
    assert road["precision"] == 1.0
    assert (wet["IoU"], wet["accuracy"], wet["precision"]) == (0.5, 1.0, 0.5)
    assert ice["IoU"] is None  # predicted only where nobody labelled
    assert report.numbers["mIoU"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert report.numbers["mIoU_all"] == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert report.numbers["aAcc"] == pytest.approx(7 / 9)
    assert report.confusion is None
    assert report.value == report.numbers["mIoU"]


def test_truth_is_perfect_and_nothing_anywhere_is_no_number() -> None:
    metric = MultiLabelMetric(CLASSES)
    metric.update([TRUTH], batch(TRUTH))
    assert metric.compute().numbers["mIoU"] == metric.compute().numbers["aAcc"] == 1.0
    metric.reset()
    nothing = masks([0, 0], [0, 0], [0, 0])
    metric.update([nothing], batch(nothing))
    assert metric.compute().to_json()["metrics"]["mIoU"] is None
    assert metric.compute().numbers["aAcc"] == 1.0


def test_union_of_processes_equals_one_process() -> None:
    generator = torch.Generator().manual_seed(0)

    def some() -> Tensor:
        return torch.rand(3, 5, 7, generator=generator) < 0.5

    metrics = [MultiLabelMetric(CLASSES) for _ in range(3)]
    for number in range(6):
        truth, found = ClassMasks(some(), some()[0]), ClassMasks(some(), torch.zeros(5, 7).bool())
        for metric in (metrics[0], metrics[1 + number % 2]):
            metric.update([found], batch(truth))
    states = [pickle.loads(pickle.dumps(metric.state())) for metric in metrics[1:]]  # noqa: S301
    metrics[1].merge(states)
    assert metrics[1].compute() == metrics[0].compute()
    assert metrics[1].compute().num_images == 6


def test_wrong_results_are_refused() -> None:
    metric = MultiLabelMetric(CLASSES)
    with pytest.raises(TypeError, match="needs masks of classes"):
        metric.update([LabelMap(torch.zeros(1, 4).long())], batch(TRUTH))
    with pytest.raises(TypeError, match="needs masks of classes"):
        metric.update([FOUND], Batch(torch.zeros(1, 3, 1, 1), [(1, 1)], None, batch(TRUTH).infos))
    with pytest.raises(
        ValueError, match=r"of 0\.png have the shape \(3, 1, 4\) and .* \(2, 1, 4\)"
    ):
        metric.update([ClassMasks(FOUND.masks[:2], FOUND.ignored)], batch(TRUTH))
    with pytest.raises(ZigguratError, match="no labelled pixel was evaluated"):
        metric.compute()
    with pytest.raises(ValueError, match="at least one class"):
        MultiLabelMetric(())


def test_an_empty_batch_is_nothing() -> None:
    metric = MultiLabelMetric(CLASSES)
    metric.update([], Batch(torch.zeros(0, 3, 1, 1), [], None, []))
    assert metric.state().images == ()


def test_boundaries_of_masks_are_those_of_label_maps() -> None:
    generator = torch.Generator().manual_seed(1)
    labels, found = (
        torch.randint(0, 3, (6, 8), generator=generator)
        .repeat_interleave(9, 0)
        .repeat_interleave(9, 1)
        for _ in range(2)
    )
    labels[:20, 30:50] = 255
    of_maps, of_masks = SegmentationMetric(CLASSES), MultiLabelMetric(CLASSES)
    of_maps.add(LabelMap(found), LabelMap(labels), image_id=0, path="0.png")
    one_hot = [torch.stack([x == label for label in range(3)]) for x in (labels, found)]
    truth = ClassMasks(one_hot[0], labels == 255)
    of_masks.update([ClassMasks(one_hot[1], labels == 300)], batch(truth))
    ours, theirs = of_masks.compute(), of_maps.compute()
    for name in ("mIoU", "mAcc", "mDice", "boundary_mIoU"):
        assert ours.numbers[name] == pytest.approx(theirs.numbers[name], abs=1e-15)
    assert 0.05 < ours.numbers["boundary_mIoU"] < ours.numbers["mIoU"] + 0.2
    for mine, other in zip(ours.per_class, theirs.per_class, strict=True):
        assert mine["boundary_IoU"] == other["boundary_IoU"]
    assert of_masks.images == of_maps.images


def test_each_image_has_its_score() -> None:
    metric = MultiLabelMetric(CLASSES)
    nothing = masks([0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0])
    metric.update([FOUND, nothing], batch(TRUTH, nothing))
    first, second = metric.images
    assert (first.pixels, first.wrong, first.path) == (3, 2, "0.png")
    assert first.iou == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert (second.pixels, second.wrong, second.iou) == (4, 0, None)
