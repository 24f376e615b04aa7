"""A detector refuses a batch whose parts are not of the same images."""

import pytest
import torch

from ziggurat import create_model
from ziggurat.models.detector import Detector
from ziggurat.systems.detection import DETECTION_SYSTEMS
from ziggurat.types import Detections

SIZE = (64, 96)
TARGET = Detections(torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.ones(1), torch.tensor([0]))


@pytest.mark.parametrize("system", sorted(DETECTION_SYSTEMS))
def test_each_image_has_one_target_and_one_size(system: str) -> None:
    torch.manual_seed(0)
    model = create_model(system, backbone="topformer_tiny", num_classes=2, head_channels=32).eval()
    assert isinstance(model, Detector)
    with torch.no_grad():
        raw = model(torch.randn(2, 3, *SIZE))
        for count in (1, 3):
            with pytest.raises(ValueError, match="one entry an image"):
                model.loss(raw, [TARGET] * count, [SIZE] * count)
            with pytest.raises(ValueError, match="one entry an image"):
                model.decode(raw, [SIZE] * count)
