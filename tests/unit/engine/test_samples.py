"""Pictures of validation images are those that the model saw, in the photo's colours."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from ziggurat.data.detection import normalize
from ziggurat.engine.samples import Samples
from ziggurat.types import (
    CAFFE_PIXELS,
    IMAGENET_PIXELS,
    Batch,
    Detections,
    FitInside,
    ImageInfo,
    Pixels,
)


class Recorder:
    """Stands for the logger of TensorBoard and for what it writes to."""

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []

    @property
    def experiment(self) -> "Recorder":
        return self

    def add_image(self, name: str, picture: np.ndarray, step: int, *, dataformats: str) -> None:
        assert (name, step, dataformats) == ("predictions/1", 7, "HWC")
        self.pictures.append(picture)


@pytest.mark.parametrize("pixels", [IMAGENET_PIXELS, CAFFE_PIXELS])
def test_a_picture_has_the_colours_of_the_photo(pixels: Pixels) -> None:
    photo = np.zeros((40, 60, 3), dtype=np.uint8)
    photo[:] = (200, 120, 40)
    wanted = FitInside(**asdict(pixels))
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())
    images = normalize(photo, wanted)[None]
    batch = Batch(images, [(40, 60)], [nothing], [ImageInfo(1, "photo.png", (40, 60))])
    samples, recorder = Samples(), Recorder()
    samples.add(batch, [nothing], wanted)
    samples.log(recorder, ("car",), 7)  # type: ignore[arg-type]
    height, width, _ = recorder.pictures[0].shape  # small photos are drawn larger
    middle = recorder.pictures[0][height // 2, width // 2].astype(int)
    assert np.abs(middle - (200, 120, 40)).max() <= 1
