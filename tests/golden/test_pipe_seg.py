"""The segmentation pipelines give what mmseg's and OpenCV give."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ziggurat.data.channels import normalize
from ziggurat.data.photometric import (
    hsv_to_rgb,
    rgb_to_hsv,
    scale_levels,
    scale_saturation,
    shift_hue,
)
from ziggurat.data.resize import fit_size
from ziggurat.data.segmentation import (
    is_varied,
    pad,
    resize_aligned,
    resize_labels,
    to_tensors,
)
from ziggurat.ops.padding import aligned_size
from ziggurat.preprocessing import FitAligned

DATA = Path(__file__).parent / "data" / "dense"
NAMES = ("pipe_seg_alignresize", "pipe_seg_resize_to_multiple")


class Case:
    def __init__(self, name: str) -> None:
        self.facts: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
        with np.load(DATA / f"{name}.npz") as arrays:
            self.values = dict(arrays)
        height, width, seed = self.facts["image"]
        y, x = np.mgrid[0:height, 0:width]
        levels = np.stack(
            [127 + 60 * np.sin(x / (7 + c) + c) + 40 * np.cos(y / (5 + 2 * c)) for c in range(3)], 2
        )
        levels += np.random.RandomState(seed).randint(-20, 21, (height, width, 3))
        self.rgb = np.clip(np.rint(levels), 0, 255).astype(np.uint8)[..., ::-1].copy()
        self.labels = (((y // 9) * 5 + x // 11) % 151).astype(np.uint8)

    def sampled(self, output: str, ours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        facts = self.facts["outputs"][output]
        assert list(ours.shape) == facts["shape"]
        return ours.reshape(-1)[:: facts["stride"]], self.values[output]


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("letter", ["a", "b", "c"])
def test_test_time_resize(case: Case, letter: str) -> None:
    scale = case.facts[f"case_{letter}"]["scale"]
    limits = FitAligned(short_side=min(scale), long_side=max(scale))
    image = resize_aligned(case.rgb, limits)
    np.testing.assert_array_equal(*case.sampled(f"img_{letter}_uint8_bgr", image[..., ::-1]))
    normal = normalize(image, limits).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(*case.sampled(f"norm_{letter}_rgb_hwc", normal), atol=5e-7)
    size = fit_size(case.labels.shape, limits.short_side, limits.long_side)
    twice = resize_labels(resize_labels(case.labels, size), aligned_size(size, 32))
    np.testing.assert_array_equal(*case.sampled(f"seg_{letter}", twice))


class TestTraining:
    @pytest.fixture
    def case(self) -> Case:
        return Case(NAMES[0])

    def test_sizes(self, case: Case) -> None:
        for width, height, fitted, aligned in case.facts["align_resize_w_h_rescaled_aligned"]:
            size = fit_size((height, width), 512, 2048)
            assert [size[1], size[0]] == fitted
            assert [*aligned_size(size, 32)[::-1]] == aligned

    @pytest.mark.parametrize(
        ("name", "factor", "shift"),
        [
            ("brightness_+17.3", 1.0, 17.3),
            ("contrast_0.73", 0.73, 0.0),
            ("contrast_1.31", 1.31, 0.0),
        ],
    )
    def test_brightness_and_contrast(
        self, case: Case, name: str, factor: float, shift: float
    ) -> None:
        changed = scale_levels(case.rgb, factor, shift)[..., ::-1]
        np.testing.assert_array_equal(*case.sampled(f"photo_{name}", changed))

    def test_hsv(self, case: Case) -> None:
        np.testing.assert_array_equal(*case.sampled("photo_hsv", rgb_to_hsv(case.rgb)))

    @pytest.mark.parametrize("name", ["saturation_1.4", "hue_-11"])
    def test_saturation_and_hue(self, case: Case, name: str) -> None:
        changed = scale_saturation(case.rgb, 1.4) if "sat" in name else shift_hue(case.rgb, -11)
        ours, official = case.sampled(f"photo_{name}", changed[..., ::-1])
        # OpenCV rounds the last pixels of a row and cuts off the levels of all others.
        assert np.abs(ours.astype(int) - official).max() <= 1
        assert (ours == official).mean() > 0.96

    def test_hsv_keeps_grey(self) -> None:
        grey = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
        np.testing.assert_array_equal(hsv_to_rgb(rgb_to_hsv(grey)), grey)

    def test_crops_of_one_class_are_refused(self, case: Case) -> None:
        labels = np.zeros((97, 141), np.uint8)
        labels[60:, 90:], labels[:20, :30] = 5, 7
        official = case.facts["random_crop_64_cat0.75_seed3_y_x_h_w"]
        draws = np.random.RandomState(3)
        for top, left, height, width in official:
            # The official draws, so that the same crops are looked at: ten, then one more.
            for _ in range(11):
                y, x = draws.randint(0, 97 - 64 + 1), draws.randint(0, 141 - 64 + 1)
                if is_varied(labels[y : y + 64, x : x + 64], 0.75):
                    break
            assert [y, x, 64, 64] == [top, left, height, width]

    def test_padding(self, case: Case) -> None:
        limits = FitAligned()
        image, labels = pad(*to_tensors(case.rgb, case.labels, limits), (128, 160))
        np.testing.assert_allclose(
            *case.sampled("pad_img", image.permute(1, 2, 0).numpy()), atol=5e-7
        )
        np.testing.assert_array_equal(*case.sampled("pad_seg", labels.labels.numpy()))
