"""Pictures of validation images are those that the model saw, in the photo's colours."""

from dataclasses import asdict

import numpy as np
import pytest

from ziggurat.data.channels import normalize
from ziggurat.engine.samples import _pixels
from ziggurat.preprocessing import CAFFE_PIXELS, IMAGENET_PIXELS, FitInside, Pixels


@pytest.mark.parametrize("pixels", [IMAGENET_PIXELS, CAFFE_PIXELS])
def test_a_picture_has_the_colours_of_the_photo(pixels: Pixels) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    wanted = FitInside(**asdict(pixels))
    assert np.array_equal(_pixels(normalize(photo, wanted), wanted), photo)
