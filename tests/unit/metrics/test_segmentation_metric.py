"""Intersection over union against hand counts and, where the data are there, official numbers."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.errors import ZigguratError
from ziggurat.metrics.segmentation import ImageScore, SegmentationMetric
from ziggurat.types import Batch, ClassScores, ImageInfo, LabelMap

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def batch(*maps: torch.Tensor) -> Batch:
    infos = [ImageInfo(i, f"{i}.png", (m.shape[0], m.shape[1])) for i, m in enumerate(maps)]
    return Batch(
        torch.zeros(len(maps), 3, 1, 1), [(1, 1)] * len(maps), [LabelMap(m) for m in maps], infos
    )


def test_counts_by_hand() -> None:
    metric = SegmentationMetric(["sky", "sea", "ship"])
    truth = torch.tensor([[0, 0, 1, 255]])
    metric.update([LabelMap(torch.tensor([[0, 1, 1, 0]]))], batch(truth))
    report = metric.compute()
    assert report.numbers["aAcc"] == pytest.approx(2 / 3)
    assert report.numbers["mIoU"] == pytest.approx(0.5)  # the absent class does not count
    assert report.numbers["mIoU_all"] == pytest.approx(1 / 3)  # here it does
    assert report.numbers["mAcc"] == pytest.approx(0.75)
    assert report.per_class[2]["IoU"] is None
    assert report.confusion is not None
    assert report.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("count", [1, 7, 255])
def test_matrix_equals_counting_pixel_by_pixel(count: int) -> None:
    rng = np.random.default_rng(count)
    truth, found = rng.integers(0, count, (2, 40, 50))
    truth[rng.random((40, 50)) < 0.2] = 255
    metric = SegmentationMetric([str(label) for label in range(count)])
    # Memory that is not contiguous, as of a cropped or mirrored map.
    metric.update([LabelMap(torch.from_numpy(found.T.copy()).T)], batch(torch.from_numpy(truth)))
    expected = np.zeros((count, count), dtype=np.int64)
    is_counted = truth != 255
    np.add.at(expected, (truth[is_counted], found[is_counted]), 1)
    confusion = metric.compute().confusion
    assert confusion is not None
    np.testing.assert_array_equal(confusion, expected)


def test_union_of_processes_equals_one_process() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(4, (6, 5, 7), generator=generator)
    found = torch.randint(4, (6, 5, 7), generator=generator)
    metrics = [SegmentationMetric("abcd") for _ in range(3)]
    for i in range(6):
        for metric in (metrics[0], metrics[1 + i % 2]):
            metric.update([LabelMap(found[i])], batch(maps[i]))
    whole = metrics[0].compute()
    states = [pickle.loads(pickle.dumps(metric.state())) for metric in metrics[1:]]  # noqa: S301
    metrics[1].merge(states)
    assert metrics[1].compute().numbers == whole.numbers
    assert metrics[1].compute().per_class == whole.per_class
    assert sorted(image.wrong for image in metrics[1].images) == sorted(
        image.wrong for image in metrics[0].images
    )
    assert metrics[1].compute().num_images == 6


def test_labels_beyond_the_classes_name_the_file() -> None:
    metric = SegmentationMetric(["sky", "sea"])
    good, bad = torch.tensor([[0, 1]]), torch.tensor([[0, 7]])
    with pytest.raises(ZigguratError, match=r"the labels of 0\.png reach 7, .* or 255 for unlab"):
        metric.update([LabelMap(good)], batch(bad))
    with pytest.raises(
        ZigguratError, match=r"predicted labels of 0\.png reach 7, .* expected 0 to"
    ):
        metric.update([LabelMap(bad)], batch(good))
    with pytest.raises(ZigguratError, match=r"predicted labels of 0\.png reach 255"):
        metric.update([LabelMap(torch.tensor([[0, 255]]))], batch(good))
    with pytest.raises(ZigguratError, match=r"labels of 0\.png lie in -1\.\.0; expected 0\.\.255"):
        metric.update([LabelMap(good)], batch(torch.tensor([[0, -1]])))
    with pytest.raises(ZigguratError, match="no labelled pixel"):
        metric.compute()


def test_what_is_predicted_where_nobody_labelled_does_not_count() -> None:
    metric = SegmentationMetric(["sky", "sea"])
    metric.update([LabelMap(torch.tensor([[0, 77]]))], batch(torch.tensor([[0, 255]])))
    assert metric.compute().numbers["mIoU"] == 1.0


def test_scores_of_each_image() -> None:
    metric = SegmentationMetric(["sky", "sea", "ship"])
    truth = (torch.tensor([[0, 0, 1, 255]]), torch.tensor([[2, 2]]), torch.tensor([[255]]))
    found = (torch.tensor([[0, 1, 1, 0]]), torch.tensor([[2, 2]]), torch.tensor([[1]]))
    metric.update([LabelMap(labels) for labels in found], batch(*truth))
    assert metric.images == (
        ImageScore(0, "0.png", pixels=3, wrong=1, iou=0.5),
        ImageScore(1, "1.png", pixels=2, wrong=0, iou=1.0),
        ImageScore(2, "2.png", pixels=0, wrong=0, iou=None),
    )
    assert [image.share_wrong for image in metric.images] == [1 / 3, 0.0, 0.0]
    assert metric.compute().num_images == 3


def test_boundary_iou_sees_what_iou_does_not() -> None:
    truth = torch.zeros(100, 100, dtype=torch.uint8)
    truth[20:80, 20:80] = 1
    found = truth.clone()
    found[20:80, 20:22] = 0  # an edge that is two pixels off
    metric = SegmentationMetric(["ground", "house"])
    metric.update([LabelMap(found)], batch(truth))
    house = metric.compute().per_class[1]
    assert house["IoU"] == pytest.approx(58 / 60)
    # Bands of 3 pixels, 60 x 60 and 60 x 58; those at the left share one column of them.
    near_true, near_found = 60**2 - 54**2, 60 * 58 - 54 * 52
    shared = near_true - 3 * 60 + 60
    assert house["boundary_IoU"] == pytest.approx(shared / (near_true + near_found - shared))
    assert metric.compute().numbers["boundary_mIoU"] < metric.compute().numbers["mIoU"]


def test_perfect_prediction_is_perfect_beside_what_nobody_labelled() -> None:
    truth = torch.randint(4, (20, 30)).repeat_interleave(4, 0).repeat_interleave(4, 1)
    found = truth.clone()
    truth[30:60, 40:90] = 255
    metric = SegmentationMetric("abcd")
    metric.update([LabelMap(found)], batch(truth))
    numbers = metric.compute().numbers
    assert set(numbers.values()) == {1.0}


def test_what_a_class_is_mistaken_for() -> None:
    metric = SegmentationMetric(["sky", "sea", "ship"])
    metric.update(
        [LabelMap(torch.tensor([[0, 1, 2, 2, 1]]))], batch(torch.tensor([[0, 0, 0, 0, 1]]))
    )
    assert [row["mistaken_for"] for row in metric.compute().per_class] == ["ship", None, None]


def test_number_of_classes() -> None:
    for classes in ([], [str(number) for number in range(256)]):
        with pytest.raises(ValueError, match="needs 1 to 255 classes"):
            SegmentationMetric(classes)


def test_sizes_must_agree() -> None:
    metric = SegmentationMetric(["sky"])
    with pytest.raises(ValueError, match=r"has \(1, 2\) pixels, the prediction \(2, 1\)"):
        metric.update(
            [LabelMap(torch.zeros(2, 1, dtype=torch.int16))], batch(torch.zeros(1, 2).long())
        )


def test_no_labelled_pixel_is_an_error() -> None:
    metric = SegmentationMetric(["sky"])
    metric.update([LabelMap(torch.zeros(1, 1, dtype=torch.int16))], batch(torch.tensor([[255]])))
    with pytest.raises(ZigguratError, match="no labelled pixel was evaluated"):
        metric.compute()


def test_other_results_are_refused() -> None:
    with pytest.raises(TypeError, match="needs label maps"):
        SegmentationMetric(["sky"]).update(
            [ClassScores(torch.ones(1))], batch(torch.zeros(1, 1).long())
        )


def compare(folder: str, labels: str, shift: int, classes: list[str]) -> dict[str, float]:
    root = SHARED / folder
    if not root.is_dir():
        pytest.skip(f"the data set {folder} is not on this machine")
    metric = SegmentationMetric(classes)
    for file in sorted((root / "sample_predictions").glob("*.png")):
        maps = [
            np.array(Image.open(p)) - np.uint8(shift) for p in (file, root / labels / file.name)
        ]
        metric.update([LabelMap(torch.from_numpy(maps[0]))], batch(torch.from_numpy(maps[1])))
    return metric.compute().numbers


def test_camvid_numbers() -> None:
    path = SHARED / "camvid" / "expected_metrics.json"
    if not path.is_file():
        pytest.skip("the data set camvid is not on this machine")
    expected = json.loads(path.read_text())
    numbers = compare("camvid", "annotations/val", 0, list(expected["IoU"]))
    for name in ("aAcc", "mIoU", "mAcc", "mDice"):
        assert numbers[name] == pytest.approx(expected[name], abs=1e-15)


def test_ade20k_numbers_in_both_conventions() -> None:
    path = SHARED / "ade_sample" / "expected_metrics.json"
    if not path.is_file():
        pytest.skip("the data set ade_sample is not on this machine")
    expected = json.loads(path.read_text())
    numbers = compare("ade_sample", "annotations/validation", 1, [str(i) for i in range(150)])
    assert numbers["mIoU_all"] == pytest.approx(
        expected["csail_official"]["mean_IoU_over_150"], abs=1e-15
    )
    assert numbers["aAcc"] == pytest.approx(expected["csail_official"]["pixel_accuracy"], abs=1e-15)
    assert numbers["mIoU"] == pytest.approx(expected["mmseg_style"]["mIoU_nanmean"], abs=1e-15)
    assert numbers["mAcc"] == pytest.approx(expected["mmseg_style"]["mAcc_nanmean"], abs=1e-15)
