"""Fixtures that every kind of test may use, and what makes every run the same.

Tests run on the CPU: a GPU rounds otherwise, and what needs one is not tested here.
"""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks for devices

import jaxtyping
import pytest
import torch
from hypothesis import settings

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
