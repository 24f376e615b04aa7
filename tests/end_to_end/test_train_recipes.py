"""Every recipe runs two steps on a dozen images, whatever warm-up and milestones it is made for."""

import json
from pathlib import Path

import pytest
import yaml

from ziggurat.cli.main import main
from ziggurat.config import list_recipes, recipe_path


@pytest.mark.parametrize("recipe", list_recipes())
def test_two_steps_of_a_recipe(
    recipe: str,
    tmp_path: Path,
    image_folder: Path,
    coco_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = {
        "classification": (
            f"--data.root={image_folder}",
            "--data.image_size=72",
            "--data.resize=80",
        ),
        "detection": (
            f"--data.root={coco_folder}",
            "--data.short_side=72",
            "--data.long_side=96",
            "--model.head_channels=16",
            "--model.head_depth=1",
        ),
    }[yaml.safe_load(recipe_path(recipe).read_text())["task"]]
    small = ("--data.workers=0", "--data.batch_size=4", "--trainer.accelerator=cpu")
    output = tmp_path / "run"
    command = ["train", recipe, "--output", str(output), *words, *small, "--trainer.max_steps=2"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "to 0 steps: the run has 2" in said and said.count("warm-up shortened from ") == 1
    record = json.loads((output / "metrics.json").read_text())
    assert (record["last"]["step"], record["last"]["num_images"]) == (2, 4)
    assert (output / "best.safetensors").is_file()
