"""Fixtures that every kind of test may use, and what makes every run the same.

Tests run on the CPU: a GPU rounds otherwise, and what needs one is not tested here.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks for devices

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from torch import Tensor

from ziggurat import zoo
from ziggurat.backbones.p2t import P2T
from ziggurat.cards import MODELS, ModelCard
from ziggurat.types import Task

ROOT = Path(__file__).resolve().parents[1]

# The same examples in every run; a slow machine is no reason to fail.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seed() -> None:
    """Start every test from the same random numbers."""
    torch.manual_seed(0)


class _OnMPS(Tensor):
    """Says that it lies on Apple's MPS, and has no float64 as there."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # of whatever is computed
        if func == Tensor.device.__get__:
            return torch.device("mps")
        if func is Tensor.cpu:
            with torch._C.DisableTorchFunctionSubclass():
                return args[0].as_subclass(Tensor)
        result = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(result, cls) and result.dtype == torch.float64:
            raise TypeError("Apple's MPS has no float64")
        return result


@pytest.fixture
def on_mps() -> Callable[[Tensor], Tensor]:
    """Make a tensor pass for one on Apple's MPS."""
    return lambda tensor: tensor.as_subclass(_OnMPS)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Leave out the checks of shapes, which a tracer would trace as well.

    A side that varies is a symbol there, not the int that they ask for.

    Yields:
        Nothing.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    # All models share the code around the checks, and the compiler keeps few graphs of one code.
    torch.compiler.reset()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of small real data sets beside the project; skips where it is absent."""
    shared = Path(os.environ.get("ZIGGURAT_SHARED", ROOT.parent / "shared"))
    if not (shared / "data").is_dir():
        pytest.skip(f"the real data sets are not here: no folder {shared / 'data'}")
    return shared / "data"


def _mini_backbone(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
    return P2T(
        (8, 12, 16, 24), (1, 2, 2, 2), (2, 2, 2, 2), (1, 2, 1, 1), drop_path_rate, in_channels
    )


@pytest.fixture(scope="module")
def p2t_mini() -> Iterator[str]:
    """List a backbone and two models that are small enough to be built and run many times.

    Yields:
        Name of the backbone and of the classifier; the detector is retinanet_p2t_mini.
    """
    models: tuple[tuple[str, Task, str], ...] = (
        ("p2t_mini", "classification", "classifier"),
        ("retinanet_p2t_mini", "detection", "retinanet"),
    )
    cards = [
        ModelCard(
            name=name,
            task=task,
            system=system,
            backbone="p2t_mini",
            input_size=(224, 224),
            published="",
            source="",
            recipes=(),
            drop_path_rate=0.0,
        )
        for name, task, system in models
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.BACKBONES, "p2t_mini", _mini_backbone)
        patch.setitem(zoo.TRUNKS, "p2t_mini", _mini_backbone)
        for card in cards:
            patch.setitem(MODELS, card.name, card)
        yield "p2t_mini"


def _photo(path: Path, numbers: np.ndarray) -> None:
    """Write a photo in which objects differ from one another by their brightness."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = (numbers.astype(np.int64) * 90 % 251).astype(np.uint8)
    Image.fromarray(np.stack([grey, 255 - grey, grey], axis=2)).save(path)


@pytest.fixture
def voc_folder(tmp_path: Path) -> Path:
    """Four training and two validation images in the layout of Pascal VOC, with masks.

    Object 1 of each is a dog, object 2 a person, with a border of 255 at its left.
    """
    root = tmp_path / "VOC2012"
    for split, names in {"train": "abcd", "val": "ef"}.items():
        for kind in ("Main", "Segmentation"):
            listed = root / "ImageSets" / kind / f"{split}.txt"
            listed.parent.mkdir(parents=True, exist_ok=True)
            listed.write_text("".join(f"{name}\n" for name in names))
        for name in names:
            numbers = np.zeros((70, 90), dtype=np.uint8)
            numbers[8:40, 10:40], numbers[20:60, 40:80], numbers[20:60, 40:42] = 1, 2, 255
            classes = np.array([0, 12, 15, *[0] * 252, 255], dtype=np.uint8)[numbers]
            _photo(root / "JPEGImages" / f"{name}.jpg", numbers)
            for kind, values in (("Object", numbers), ("Class", classes)):
                folder = root / f"Segmentation{kind}"
                folder.mkdir(exist_ok=True)
                image = Image.fromarray(values).convert("P")
                image.putpalette([level for value in range(256) for level in (value, 9, 9)])
                image.save(folder / f"{name}.png")
            (root / "Annotations").mkdir(exist_ok=True)
            (root / "Annotations" / f"{name}.xml").write_text(
                "<annotation><size><width>90</width><height>70</height></size>"
                "<object><name>dog</name><difficult>0</difficult><bndbox><xmin>11</xmin>"
                "<ymin>9</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object>"
                "<object><name>person</name><difficult>0</difficult><bndbox><xmin>41</xmin>"
                "<ymin>21</ymin><xmax>80</xmax><ymax>60</ymax></bndbox></object></annotation>"
            )
    return root


@pytest.fixture
def cityscapes_folder(tmp_path: Path) -> Path:
    """Four training and two validation images in the layout of Cityscapes, with objects.

    Each has two cars, a person, a crowd of persons, a caravan, and pixels of no class at the top.
    """
    root = tmp_path / "cityscapes"
    for split, city, count in (("train", "aachen", 4), ("val", "munster", 2)):
        for place in range(count):
            numbers = np.full((64, 128), 7, dtype=np.uint16)
            numbers[:6], numbers[10:30, 8:40], numbers[20:50, 40:80] = 3, 26000, 26001
            numbers[12:44, 84:96], numbers[12:30, 100:120], numbers[52:60, :20] = 24000, 24, 29000
            stem = f"{city}_{place:06}_000019"
            _photo(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", numbers)
            folder = root / "gtFine" / split / city
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numbers).save(folder / f"{stem}_gtFine_instanceIds.png")
            labels = np.where(numbers < 1000, numbers, numbers // 1000).astype(np.uint8)
            Image.fromarray(labels).save(folder / f"{stem}_gtFine_labelIds.png")
    return root
