"""Kinds of mistakes and their costs, on scenes that can be worked out by hand."""

import math

import numpy as np
import pytest

from ziggurat.metrics.errors import (
    KINDS,
    ErrorBreakdown,
    ImageObjects,
    average_precision,
    break_down,
)


def image(
    found: list[tuple[int, float]],
    true: list[int],
    ious: list[list[float]],
    *,
    image_id: int = 1,
    crowds: tuple[int, ...] = (),
) -> ImageObjects:
    """Found (label, score), true labels, and the overlap of each with each."""
    return ImageObjects(
        image_id=image_id,
        labels=np.array([label for label, _ in found], dtype=np.int64),
        scores=np.array([score for _, score in found], dtype=np.float64),
        true_labels=np.array(true, dtype=np.int64),
        is_crowd=np.isin(np.arange(len(true)), crowds),
        ious=np.array(ious, dtype=np.float64).reshape(len(found), len(true)),
    )


def counts(breakdown: ErrorBreakdown) -> dict[str, int]:
    return {kind.name: kind.count for kind in breakdown.kinds if kind.count}


def costs(breakdown: ErrorBreakdown) -> dict[str, float]:
    return {kind.name: kind.cost for kind in breakdown.kinds}


@pytest.mark.parametrize(
    ("ious", "label", "kind"),
    [
        ([0.0, 0.3], 0, "localisation"),
        ([0.0, 0.1], 0, "localisation"),
        ([0.3, 0.3], 0, "localisation"),
        ([0.7, 0.0], 0, "classification"),
        ([0.7, 0.3], 0, "localisation"),
        ([0.3, 0.0], 0, "both"),
        ([0.3, 0.09], 0, "both"),
        ([0.09, 0.09], 0, "background"),
        ([0.5, 0.0], 0, "classification"),
    ],
)
def test_kind_of_a_single_detection(ious: list[float], label: int, kind: str) -> None:
    """True objects of the classes 1 and 0; the detection is of class 0."""
    breakdown = break_down([image([(label, 0.9)], [1, 0], [ious])], 2, of="boxes")
    found = counts(breakdown)
    found.pop("missed", None)
    assert found == {kind: 1}


def test_all_right() -> None:
    breakdown = break_down([image([(0, 0.9)], [0], [[0.5]])], 1, of="masks")
    assert breakdown.of == "masks"
    assert breakdown.ap50 == pytest.approx(1.0)
    assert counts(breakdown) == {}
    assert all(kind.cost == 0 for kind in breakdown.kinds)
    assert [kind.name for kind in breakdown.kinds] == list(KINDS)
    assert breakdown.worst == ()


def test_missed_object() -> None:
    """One of two is found: precision 1 up to recall 0.5, that is at 51 of 101 recalls."""
    breakdown = break_down([image([(0, 0.9)], [0, 0], [[0.8, 0.0]])], 1, of="boxes")
    assert breakdown.ap50 == pytest.approx(51 / 101)
    assert counts(breakdown) == {"missed": 1}
    assert costs(breakdown)["missed"] == pytest.approx(50 / 101)


def test_false_detection_in_the_background() -> None:
    """Surer than the hit it halves the precision."""
    scene = image([(0, 0.95), (0, 0.9)], [0], [[0.0], [0.8]])
    breakdown = break_down([scene], 1, of="boxes")
    assert breakdown.ap50 == pytest.approx(0.5)
    assert counts(breakdown) == {"background": 1}
    assert costs(breakdown)["background"] == pytest.approx(0.5)
    assert costs(breakdown)["duplicate"] == 0


def test_duplicate() -> None:
    """Objects of one class in two images; a second detection of the first comes in between."""
    first = image([(0, 0.9), (0, 0.8)], [0], [[0.9], [0.6]])
    second = image([(0, 0.7)], [0], [[0.9]], image_id=2)
    breakdown = break_down([first, second], 1, of="boxes")
    assert counts(breakdown) == {"duplicate": 1}
    # Precision 1 up to recall 0.5, then 2/3.
    assert breakdown.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert costs(breakdown)["duplicate"] == pytest.approx(50 / 3 / 101)


def test_the_surer_one_of_two_matches_first() -> None:
    """The better overlap does not help a detection that comes second."""
    scene = image([(0, 0.5), (0, 0.9)], [0], [[0.95], [0.55]])
    breakdown = break_down([scene], 1, of="boxes")
    assert counts(breakdown) == {"duplicate": 1}
    assert breakdown.ap50 == pytest.approx(1.0)


def test_localisation_moves_the_surest_and_removes_the_others() -> None:
    scene = image([(0, 0.6), (0, 0.9)], [0], [[0.4], [0.3]])
    breakdown = break_down([scene], 1, of="boxes")
    assert breakdown.ap50 == 0.0
    assert counts(breakdown) == {"localisation": 2}  # and so nothing is missed
    assert costs(breakdown)["localisation"] == pytest.approx(1.0)
    assert costs(breakdown)["missed"] == 0.0


def test_localisation_of_an_object_that_is_found_only_goes_away() -> None:
    scene = image([(0, 0.9), (0, 0.8)], [0], [[0.3], [0.9]])
    breakdown = break_down([scene], 1, of="boxes")
    assert breakdown.ap50 == pytest.approx(0.5)
    assert costs(breakdown)["localisation"] == pytest.approx(0.5)


def test_classification_helps_the_true_class_and_clears_the_wrong_one() -> None:
    """Class 0: one object, called 1. Class 1: one object, found, but below the false one."""
    scene = image([(1, 0.9), (1, 0.8)], [0, 1], [[0.9, 0.0], [0.0, 0.9]])
    breakdown = break_down([scene], 2, of="boxes")
    assert breakdown.ap50 == pytest.approx((0 + 0.5) / 2)
    assert counts(breakdown) == {"classification": 1}
    assert costs(breakdown)["classification"] == pytest.approx(0.75)


def test_both() -> None:
    scene = image([(1, 0.9), (1, 0.8)], [0, 1], [[0.3, 0.0], [0.0, 0.9]])
    breakdown = break_down([scene], 2, of="boxes")
    assert counts(breakdown) == {"both": 1, "missed": 1}
    assert costs(breakdown)["both"] == pytest.approx(0.25)
    # Class 0 has nothing but its missed object: nothing can be said of its precision.
    assert costs(breakdown)["missed"] == 0.0


def test_crowds_are_neither_missed_nor_mistakes() -> None:
    scene = image(
        [(0, 0.9), (0, 0.8), (0, 0.7)], [0, 0], [[0.9, 0.0], [0.9, 0.0], [0.0, 0.8]], crowds=(0,)
    )
    breakdown = break_down([scene], 1, of="boxes")
    assert counts(breakdown) == {}
    assert breakdown.ap50 == pytest.approx(1.0)
    alone = break_down([image([], [0], [], crowds=(0,))], 1, of="boxes")
    assert counts(alone) == {}
    assert math.isnan(alone.ap50)


def test_an_object_goes_before_a_crowd() -> None:
    scene = image([(0, 0.9)], [0, 0], [[0.9, 0.6]], crowds=(0,))
    assert break_down([scene], 1, of="boxes").ap50 == pytest.approx(1.0)


def test_only_a_hundred_detections_of_a_class_count() -> None:
    found = [(0, 1 - number / 1000) for number in range(101)]
    ious = [[0.0]] * 100 + [[0.9]]
    breakdown = break_down([image(found, [0], ious)], 1, of="boxes")
    assert counts(breakdown) == {"background": 100, "missed": 1}


def test_nothing_found_and_nothing_there() -> None:
    nothing = image([], [], [])
    found = break_down([nothing, image([(0, 0.5)], [], [], image_id=2)], 2, of="boxes")
    assert math.isnan(found.ap50)
    assert counts(found) == {"background": 1}
    content = found.to_json()
    assert content["AP50"] is None
    assert content["kinds"]["background"] == {"count": 1, "AP50_lost": None}


def test_worst_images_at_the_best_threshold() -> None:
    good = image([(0, 0.9), (0, 0.2)], [0], [[0.9], [0.0]], image_id=10)
    bad = image([(0, 0.8)], [0, 0, 0], [[0.0, 0.0, 0.0]], image_id=20)
    fair = image([(0, 0.7), (0, 0.6)], [0, 0], [[0.9, 0.0], [0.0, 0.9]], image_id=30)
    breakdown = break_down([good, bad, fair], 1, of="boxes")
    assert breakdown.threshold == pytest.approx(0.6)
    (worst,) = breakdown.worst  # what is below the threshold is no mistake
    assert worst.image_id == 20
    assert worst.mistakes == {"background": 1, "missed": 3}
    assert breakdown.to_json()["worst_images"] == [
        {"image_id": 20, "mistakes": {"background": 1, "missed": 3}}
    ]


def test_average_precision_by_hand() -> None:
    hits = np.array([True, False, True])
    # Recall 1/4 at precision 1, recall 1/2 at 2/3; nothing beyond.
    assert average_precision(hits, 4) == pytest.approx((26 + 25 * 2 / 3) / 101)
    assert average_precision(hits, 0) == 0.0
    assert average_precision(hits[:0], 4) == 0.0
