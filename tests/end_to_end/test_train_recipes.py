"""Recipes run two steps on a dozen images, whatever warm-up and milestones they are made for.

One recipe for each system, and among the slow tests for each schedule. Others differ in numbers,
which the tests of recipes compare with the official ones.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ziggurat.backbones.p2t import P2T
from ziggurat.cards import MODELS
from ziggurat.cli.main import main
from ziggurat.config import list_recipes, recipe_path
from ziggurat.systems import SYSTEMS
from ziggurat.zoo.backbones import BACKBONES, SINGLE_STAGE_ADAPTERS, TRUNKS

SCHEDULES = r"1x\w*|3x\w*|50e\w*|300e\w*|from\w*|\d+k\w*"
NAMES = r"pvt\w*|p2t\w*|gpvit\w*|resnet\w*|tiny|small|base|(?:tiny|base)_cityscapes"
RUNS = re.compile(rf"(.*?)_?({NAMES})_({SCHEDULES})")
HEAVY = (
    *("cascade_mask_rcnn", "faster_rcnn_panet_fpt", "faster_rcnn_panet_2fc_fpt"),
    *("mask_rcnn_panet_fpt", "keypoint_rcnn", "sparse_rcnn"),
)


def _chosen() -> list[Any]:
    """The last recipe of each system and schedule; those of a system's other schedules are slow."""
    kinds = {}
    for recipe in list_recipes():
        match = RUNS.fullmatch(recipe)
        assert match is not None, recipe
        if yaml.safe_load(recipe_path(recipe).read_text())["model"]["name"] in MODELS:
            kinds[match[1], match[3]] = recipe
    quick = {name: recipe for (name, _), recipe in kinds.items() if name not in HEAVY}.values()
    return [
        pytest.param(recipe, marks=[] if recipe in quick else pytest.mark.slow)
        for recipe in kinds.values()
    ]


def _tiny(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
    sixteen, one, two = (16,) * 4, (1,) * 4, (2,) * 4
    return P2T(sixteen, one, two, one, drop_path_rate, in_channels)


@pytest.mark.parametrize("recipe", _chosen())
def test_two_steps_of_a_recipe(
    recipe: str,
    tmp_path: Path,
    image_folder: Path,
    coco_folder: Path,
    label_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for table in (BACKBONES, TRUNKS, SINGLE_STAGE_ADAPTERS):
        for name in table:
            monkeypatch.setitem(table, name, _tiny)
    tree = yaml.safe_load(recipe_path(recipe).read_text())
    if tree["task"] == "classification":
        words = [f"--data.root={image_folder}", "--data.image_size=72", "--data.resize=80"]
    elif tree["task"] == "semantic_segmentation":
        words = [
            f"--data.root={label_folder}",
            "--data.short_side=64",
            "--data.long_side=96",
            "--data.crop=[64,64]",
            "--model.head_channels=16",
        ]
        if "layout" in tree["data"]:
            words.append("--data.layout=label_folder")
    else:
        words = [
            f"--data.root={coco_folder}",
            "--data.short_side=72",
            "--data.long_side=96",
            "--model.head_channels=64",
        ]
        if SYSTEMS[MODELS[tree["model"]["name"]].system].has_depth:
            words.append("--model.head_depth=1")
        if "train_short_sides" in tree["data"]:
            words.append("--data.train_short_sides=[64,72]")
        if "crop_first" in tree["data"]:
            words += ["--data.crop_first_short_sides=[64]", "--data.crop_first_sides=[48,64]"]
    if tree["model"].get("freeze_norms"):  # here the backbone is another one, without weights
        words += ["--model.freeze_stages=null", "--model.freeze_norms=false"]
    small = ["--data.workers=0", "--data.batch_size=4", "--trainer.accelerator=cpu"]
    output = tmp_path / "run"
    command = ["train", recipe, "--output", str(output), *words, *small, "--trainer.max_steps=2"]
    assert main(command) == 0
    said = capsys.readouterr().out
    has_warmup = {"warmup_steps", "warmup_epochs"} & tree["schedule"].keys()
    assert said.count("warm-up shortened from ") == bool(has_warmup)
    assert not has_warmup or "to 0 steps: the run has 2" in said
    record = json.loads((output / "metrics.json").read_text())
    assert (record["last"]["step"], record["last"]["num_images"]) == (2, 4)
    assert (output / "best.safetensors").is_file()
