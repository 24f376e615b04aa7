"""Scenes for all tasks, a tiny backbone, and runs on them that are ready to be examined."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ziggurat import zoo
from ziggurat.backbones.p2t import P2T
from ziggurat.config.files import load_run
from ziggurat.data.synthesize import synthesize
from ziggurat.doctor.subject import Subject, open_run

RECIPES = {
    "classification": "p2t_tiny_from_scratch",
    "detection": "retinanet_p2t_tiny_from_scratch",
    "segmentation": "semantic_fpn_p2t_tiny_from_scratch",
}
SMALL = {
    "classification": ("--data.batch_size=8",),
    "detection": ("--model.head_channels=16", "--model.head_depth=1", "--data.short_side=128"),
    "segmentation": (
        "--model.head_channels=16",
        "--data.short_side=128",
        "--data.crop=[96,96]",
        "--data.batch_size=4",
    ),
}
"""What lets the recipes end in seconds."""


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let "p2t_tiny" be a P2T with a block a stage and 16 channels."""

    def build(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
        sixteen, one, two = (16,) * 4, (1,) * 4, (2,) * 4
        return P2T(sixteen, one, two, one, drop_path_rate, in_channels)

    monkeypatch.setitem(zoo.BACKBONES, "p2t_tiny", build)
    monkeypatch.setitem(zoo.TRUNKS, "p2t_tiny", build)


@pytest.fixture(scope="session")
def made_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty scenes in the layouts of all tasks."""
    root = tmp_path_factory.mktemp("scenes")
    synthesize(root, num_images=30, size=(128, 160), seed=0)
    return root


@pytest.fixture
def scenes(made_scenes: Path, tmp_path: Path) -> Path:
    """A copy of the scenes that a test may spoil."""
    root = tmp_path / "scenes"
    shutil.copytree(made_scenes, root)
    return root


@pytest.fixture
def opened(scenes: Path) -> Callable[..., Subject]:
    """Open a small run of a task on the scenes; fields may be set, and another recipe named."""

    def build(task: str, *words: str, recipe: str | None = None) -> Subject:
        name = recipe or RECIPES[task]
        small = SMALL[task] if recipe is None else ()
        config = load_run(name, [f"--data.root={scenes / task}", *small, *words])
        return open_run(config, name)

    return build
