"""Top-k accuracy and the confusion matrix, on values that can be counted by hand."""

import json

import numpy as np
import pytest
import torch

from ziggurat.errors import ZigguratError
from ziggurat.metrics.classification import ClassificationMetric
from ziggurat.types import Batch, ClassScores, Detections, ImageInfo, Result

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")


def batch_of(labels: list[int]) -> Batch:
    return Batch(
        images=torch.zeros(len(labels), 3, 4, 4),
        image_sizes=[(4, 4)] * len(labels),
        targets=torch.tensor(labels, dtype=torch.int64),
        infos=[ImageInfo(index, f"{index}.jpg", (4, 4)) for index in range(len(labels))],
    )


def scores_of(*order: int) -> ClassScores:
    """Scores that rank the classes in the order given."""
    scores = torch.zeros(len(CLASSES))
    for place, label in enumerate(order):
        scores[label] = 1.0 - 0.1 * place
    return ClassScores(scores)


def filled() -> ClassificationMetric:
    metric = ClassificationMetric(CLASSES)
    results: list[Result] = [
        scores_of(0, 1, 2, 3, 4, 5),
        scores_of(1, 0, 2, 3, 4, 5),
        scores_of(1, 2, 3, 4, 5, 0),
        scores_of(2, 1, 0, 3, 4, 5),
    ]
    metric.update(results, batch_of([0, 0, 0, 2]))
    return metric


def test_counts_by_hand() -> None:
    report = filled().compute()
    assert report.numbers == {"top1": 0.5, "top5": 0.75}
    assert report.primary == "top1"
    assert report.value == 0.5
    assert report.num_images == 4
    expected = np.zeros((6, 6), dtype=np.int64)
    expected[0, 0], expected[0, 1], expected[2, 2] = 1, 2, 1
    assert report.confusion is not None
    np.testing.assert_array_equal(report.confusion, expected)
    assert report.per_class[0] == {
        "class": "ant",
        "images": 3,
        "correct": 1,
        "accuracy": 1 / 3,
        "mistaken_for": "bee",
    }
    assert report.per_class[1]["accuracy"] is None
    assert report.per_class[2]["mistaken_for"] is None


def test_fewer_than_five_classes() -> None:
    metric = ClassificationMetric(("a", "b"))
    metric.update([ClassScores(torch.tensor([0.9, 0.1]))], batch_of([1]))
    assert metric.compute().numbers == {"top1": 0.0, "top5": 1.0}


def test_merging_processes_equals_counting_in_one() -> None:
    first, second, both = filled(), ClassificationMetric(CLASSES), filled()
    results: list[Result] = [scores_of(5), scores_of(4)]
    for metric in (second, both):
        metric.update(results, batch_of([5, 5]))
    states = [first.state(), second.state()]
    first.merge(states)
    assert first.compute().to_json() == both.compute().to_json()


def test_a_state_does_not_change_afterwards() -> None:
    metric = filled()
    state = metric.state()
    metric.update([scores_of(1)], batch_of([1]))
    assert state.confusion.sum() == 4


def test_reset_forgets() -> None:
    metric = filled()
    metric.reset()
    with pytest.raises(ZigguratError, match="no image was evaluated"):
        metric.compute()


def test_report_becomes_json() -> None:
    content = json.loads(json.dumps(filled().compute().to_json()))
    assert content["metrics"] == {"top1": 0.5, "top5": 0.75}
    assert content["confusion"][0] == [1, 2, 0, 0, 0, 0]
    assert content["per_class"][1]["accuracy"] is None


def test_rejects_what_is_no_class_score() -> None:
    metric = ClassificationMetric(CLASSES)
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(TypeError, match="class scores"):
        metric.update([nothing], batch_of([0]))


def test_rejects_targets_that_are_no_labels() -> None:
    batch = Batch(torch.zeros(1, 3, 4, 4), [(4, 4)], None, [ImageInfo(0, "a.jpg", (4, 4))])
    with pytest.raises(TypeError, match="labels"):
        ClassificationMetric(CLASSES).update([scores_of(0)], batch)


def test_rejects_wrong_counts() -> None:
    metric = ClassificationMetric(CLASSES)
    with pytest.raises(ValueError, match="expected scores of 6 classes, got 2"):
        metric.update([ClassScores(torch.tensor([0.5, 0.5]))], batch_of([0]))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.5"):
        metric.update([scores_of(0)], batch_of([6]))
    with pytest.raises(ValueError, match="one entry an image"):
        metric.update([scores_of(0)], batch_of([0, 1]))
    with pytest.raises(ValueError, match="at least one class"):
        ClassificationMetric(())
