"""Products in bfloat16, wherever a model predicts or is evaluated."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ziggurat.errors import ZigguratError
from ziggurat.fast.inference import Optimized
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.evaluation import evaluate
from ziggurat.inference.predictor import Precision, Predictor, load
from ziggurat.inference.sliding import SlidingWindows
from ziggurat.inference.tiles import Tiles
from ziggurat.ops.nms import Suppression
from ziggurat.preprocessing import FitAligned
from ziggurat.types import ClassScores
from ziggurat.zoo import Model, create_model

SETTINGS: tuple[tuple[Precision, bool], ...] = (("32", False), ("bf16", False), ("bf16", True))
CALLS: dict[str, Callable[[Predictor, Image.Image], object]] = {
    "plain": lambda predictor, photo: predictor(photo),
    "many": lambda predictor, photo: list(predictor(iter([photo, photo]))),
    "views": lambda predictor, photo: predictor(photo, augmentation=Augmentation()),
    "tiles": lambda predictor, photo: predictor(photo, tiles=Tiles(100, 20)),
    "windows": lambda predictor, photo: predictor(photo, tiles=SlidingWindows(64, 16)),
    "united": lambda predictor, photo: predictor(
        photo, augmentation=Augmentation(), suppression=Suppression("soft-linear")
    ),
}
USES = {
    "classifier": ("plain", "many", "views"),
    "detector": ("plain", "many", "views", "tiles", "united"),
    "segmenter": ("plain", "many", "views", "tiles", "windows"),
}


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    return small.resize((192, 128), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def models(classifier_file: Path, detector_file: Path) -> dict[str, Model]:
    segmenter = create_model("segformer", backbone="topformer_tiny", num_classes=5, head_channels=8)
    segmenter.preprocessing = FitAligned(short_side=64, long_side=256)
    files = {"classifier": classifier_file, "detector": detector_file}
    loaded = {name: load(file, device="cpu").model for name, file in files.items()}
    return {**loaded, "segmenter": segmenter}


def precisions(model: Model, act: Callable[[], object]) -> set[bool]:
    """Return whether the model ran under autocast to bfloat16, over all its calls."""
    seen = set()

    def look(*_: object) -> None:
        is_bf16 = torch.get_autocast_dtype("cpu") == torch.bfloat16
        seen.add(torch.is_autocast_enabled("cpu") and is_bf16)

    handle = model.register_forward_pre_hook(look)
    act()
    handle.remove()
    assert not torch.is_autocast_enabled("cpu")
    return seen


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize(("kind", "way"), [(kind, way) for kind in USES for way in USES[kind]])
def test_every_way_to_predict_has_it(
    kind: str,
    way: str,
    precision: Precision,
    models: dict[str, Model],
    photo: Image.Image,
) -> None:
    predictor = Predictor(models[kind], device="cpu", precision=precision)
    seen = precisions(predictor.model, lambda: CALLS[way](predictor, photo))
    assert seen == {precision == "bf16"}


def test_an_evaluation_has_it(classifier_file: Path, folder_root: Path) -> None:
    model = load(classifier_file, device="cpu").model

    def act() -> None:
        evaluate(model, data_root=folder_root, device="cpu", precision="bf16")

    assert precisions(model, act) == {True}


def test_results_stay_near_and_the_faster_copy_has_it_too(
    classifier_file: Path, photo: Image.Image
) -> None:
    plain, rounded, fast = (
        load(classifier_file, device="cpu", precision=precision, fast=fast)
        for precision, fast in SETTINGS
    )
    parts = [part for part in fast.model.modules() if isinstance(part, Optimized)]
    assert any(isinstance(part.plain, nn.Linear) for part in parts)
    scores = []
    for predictor in (plain, rounded, fast):
        result = predictor(photo).result
        assert isinstance(result, ClassScores)
        scores.append(result.scores)
    assert not torch.equal(scores[1], scores[0])
    for others in scores[1:]:
        assert others.dtype == torch.float32
        torch.testing.assert_close(others, scores[0], atol=2e-2, rtol=0)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_precision_is_refused(classifier_file: Path) -> None:
    with pytest.raises(ZigguratError, match="precision 'bf61'.*bf16"):
        load(classifier_file, device="cpu", precision="bf61")  # type: ignore[arg-type]
