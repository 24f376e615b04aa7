"""Results for supervision, a library of trackers, zones and annotators."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.errors import ZigguratError
from ziggurat.inference.prediction import Prediction
from ziggurat.types import ClassScores, Detections, ObjectMasks

PICTURE = Image.new("RGB", (8, 6))


def prediction(count: int, *, has_masks: bool) -> Prediction:
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 1:3, 2:5] = masks[1, 4, 7] = True
    found = Detections(
        torch.tensor([[2.0, 1.0, 5.0, 3.0], [7.0, 4.0, 8.0, 5.0]])[:count],
        torch.tensor([0.9, 0.5])[:count],
        torch.tensor([1, 0])[:count],
        ObjectMasks.from_full(masks[:count]) if has_masks else None,
    )
    return Prediction(PICTURE, found, ("cat", "tiger"))


@pytest.mark.parametrize("has_masks", [True, False])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_objects_become_those_of_supervision(count: int, has_masks: bool) -> None:
    pytest.importorskip("supervision", reason="the library supervision is not installed")
    one = prediction(count, has_masks=has_masks)
    found = one.to_supervision()
    assert isinstance(one.result, Detections)
    assert len(found) == count
    np.testing.assert_array_equal(found.xyxy, one.result.boxes.numpy())
    assert found.confidence is not None
    np.testing.assert_array_equal(found.confidence, one.result.scores.numpy())
    assert found.class_id is not None
    assert found.class_id.tolist() == [1, 0][:count]
    assert list(found.data["class_name"]) == ["tiger", "cat"][:count]
    if has_masks:
        assert one.result.masks is not None
        np.testing.assert_array_equal(found.mask, one.result.masks.full().numpy())
        kept = found[found.confidence > 0.6]
        assert isinstance(kept, type(found))
        assert len(kept) == min(count, 1)
    else:
        assert found.mask is None


def test_a_classifier_has_no_objects() -> None:
    scores = Prediction(PICTURE, ClassScores(torch.tensor([0.5, 0.5])), ("cat", "tiger"))
    with pytest.raises(ZigguratError, match="this prediction has none"):
        scores.to_supervision()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ZigguratError, match="pip install supervision"):
        prediction(1, has_masks=False).to_supervision()
