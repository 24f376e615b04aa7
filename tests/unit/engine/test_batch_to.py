"""A batch goes to its device without a wait, results come back from there whole."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ziggurat.engine.data import batch_to
from ziggurat.keypoints import Keypoints, Skeleton
from ziggurat.types import Batch, ClassMasks, Detections, LabelMap, ObjectMasks

OBJECTS = Detections(
    torch.zeros(1, 4),
    torch.ones(1),
    torch.zeros(1, dtype=torch.int64),
    ObjectMasks.from_full(torch.ones(1, 4, 4, dtype=torch.bool)),
    Keypoints(torch.zeros(1, 1, 3), Skeleton(("nose",))),
)
MAP = LabelMap(torch.zeros(4, 4, dtype=torch.uint8))
MASKS = ClassMasks(torch.zeros(2, 4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("targets", "count"), [(torch.zeros(1), 1), ([OBJECTS], 6), ([MAP], 1), ([MASKS], 2)]
)
def test_copies_of_a_batch_are_not_waited_for(
    targets: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[bool] = []

    def copy(tensor: Tensor, device: torch.device, *, non_blocking: bool = False) -> Tensor:
        waits.append(not non_blocking)
        return tensor.clone()

    monkeypatch.setattr(Tensor, "to", copy)
    batch = Batch(torch.zeros(1, 3, 4, 4), [(4, 4)], targets, [])
    batch_to(batch, torch.device("cuda"))
    assert waits == [False] * (count + 1)
    waits.clear()
    if isinstance(targets, list):
        targets[0].to("cpu")
        assert waits == [True] * count
