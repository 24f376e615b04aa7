"""Under every transform of detection a keypoint stays on its place in the image.

Each point of a test image is a square of its own colour, so that where it went can be seen.
"""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ziggurat.data.detection import CropFirst, DetectionTransform, ScaleJitter
from ziggurat.data.randomness import seeded
from ziggurat.keypoints import Keypoints, Skeleton
from ziggurat.preprocessing import FitInside
from ziggurat.types import Detections

PLAIN = FitInside(short_side=60, long_side=90, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
PIPELINES = {
    "1x": DetectionTransform(PLAIN, flip=0.5, scales=None, exact_resize=True),
    "detr": DetectionTransform(PLAIN, flip=0.5, scales=(40, 50, 60), exact_resize=False),
    "gpvit": DetectionTransform(
        PLAIN,
        flip=0.5,
        scales=(40, 50, 60),
        exact_resize=True,
        crop_first=CropFirst(0.5, (30, 40), (20, 36)),
        max_side=45,
    ),
    "jitter": DetectionTransform(
        PLAIN, flip=0.5, scales=None, exact_resize=True, jitter=ScaleJitter((0.3, 2.0), 64)
    ),
}
SIDES = Skeleton(("middle", "left", "right"), pairs=((1, 2),))
HALF = 5
"""Half the side of the coloured squares, in pixels: some colour is left in a third of the size."""


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Image.Image, Detections]:
    """A dark image with three points around which it is red, green and blue; some not labelled."""
    height, width = draw(st.integers(24, 90)), draw(st.integers(48, 90))
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    points = []
    for index in range(3):
        start = index * width // 3
        x = draw(st.integers(start + HALF, start + width // 3 - HALF - 1))
        y = draw(st.integers(HALF, height - HALF - 1))
        pixels[y - HALF : y + HALF, x - HALF : x + HALF, index] = 255
        points.append([float(x), float(y), float(draw(st.integers(0, 2)))])
    found = Detections(
        torch.tensor([[0.0, 0.0, width, height]]),
        torch.ones(1),
        torch.zeros(1, dtype=torch.int64),
        keypoints=Keypoints(torch.tensor([points]), SIDES),
    )
    return Image.fromarray(pixels), found


def size_of(scene: tuple[Image.Image, Detections]) -> FitInside:
    return FitInside(
        short_side=min(scene[0].size),
        long_side=max(scene[0].size),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


@given(scenes(), st.sampled_from(sorted(PIPELINES)), st.integers(0, 10**6))
@settings(max_examples=300)
def test_points_stay_on_their_place(
    scene: tuple[Image.Image, Detections], name: str, seed: int
) -> None:
    with seeded(seed):
        tensor, target = PIPELINES[name](*scene)
    height, width = tensor.shape[1:]
    old = scene[1].keypoints
    assert old is not None and target.keypoints is not None
    assert len(target.keypoints) == len(target) == 1
    assert target.keypoints.skeleton == SIDES
    points = target.keypoints.points[0]
    # Whether it was flipped is seen by who is on the left: red or, exchanged, green and blue.
    for index, (x, y, visibility) in enumerate(points.tolist()):
        if not visibility:
            continue
        assert 0 <= x <= width
        assert 0 <= y <= height
        around = tensor[:, max(0, int(y) - 1) : int(y) + 2, max(0, int(x) - 1) : int(x) + 2]
        brightest = around.amax(dim=(1, 2))
        colours = {0: (0,), 1: (1, 2), 2: (1, 2)}[index]
        assert int(brightest.argmax()) in colours
        assert float(brightest.max()) > 0.3
    # Nothing is invented: what was not labelled is not, except that sides change.
    counts = (
        sorted(points[:, 2].tolist(), reverse=True),
        sorted(old.points[0, :, 2].tolist(), reverse=True),
    )
    assert all(new <= before for new, before in zip(*counts, strict=True))


@given(scenes())
@settings(max_examples=30)
def test_a_flip_exchanges_the_sides(scene: tuple[Image.Image, Detections]) -> None:
    image, objects = scene
    flip = DetectionTransform(size_of(scene), flip=1.0, scales=None, exact_resize=True)
    tensor, moved = flip(image, objects)
    assert objects.keypoints is not None and moved.keypoints is not None
    before, after = objects.keypoints.points[0], moved.keypoints.points[0]
    assert after[:, 2].tolist() == before[[0, 2, 1], 2].tolist()
    for index, (x, y, _) in enumerate(after.tolist()):
        colour = (0, 2, 1)[index]  # what is now called right was drawn as left
        assert float(tensor[colour, int(y), int(x) - 1]) > 0.9
    _, back = flip(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), moved)
    assert back.keypoints is not None
    assert torch.equal(back.keypoints.points, objects.keypoints.points)


@given(scenes())
@settings(max_examples=20)
def test_without_a_flip_nothing_changes_sides(scene: tuple[Image.Image, Detections]) -> None:
    image, objects = scene
    plain = DetectionTransform(size_of(scene), flip=0.0, scales=None, exact_resize=True)
    _, same = plain(image, objects)
    assert objects.keypoints is not None and same.keypoints is not None
    assert torch.equal(same.keypoints.points, objects.keypoints.points)
