"""`reset_classes` knows exactly the entries that depend on the number of classes."""

import pytest
import torch

from ziggurat import zoo
from ziggurat.checkpoints.matching import CLASS_ENTRIES
from ziggurat.systems import SYSTEMS


@pytest.mark.parametrize("system", SYSTEMS)
def test_entries_of_other_classes(system: str) -> None:
    with torch.device("meta"):
        few, many = (
            zoo.create_model(system, backbone="pvt_v2_b0", num_classes=count).state_dict()
            for count in (3, 80)
        )
    differing = {name for name, value in few.items() if value.shape != many[name].shape}
    assert differing
    assert differing == {name for name in few if name.startswith(CLASS_ENTRIES)}
    assert all(few[name].shape[1:] == many[name].shape[1:] for name in differing)
