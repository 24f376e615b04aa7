"""The recipes of the published segmenters say what the official configurations say.

`all_configs.json` holds what each official configuration sets, as MMSegmentation itself reads it.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ziggurat.cards import MODELS
from ziggurat.config import SemanticSegmentationRun, list_recipes, load_run

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "data" / "dense" / "all_configs.json"
CONFIGS: dict[str, Any] = json.loads(GOLDEN.read_text())["configs"]
DATA = r"ade20k|pascal_context(?:_59)?|cocostuff10k"
RUN = re.compile(rf"(.*?)_(\d+k(?:_448)?(?:_4x8)?(?:_(?:{DATA}))?)")
RECIPES = [
    name
    for name in list_recipes()
    if name.startswith(("semantic_fpn", "upernet", "segformer", "topformer_seg"))
    and "from_scratch" not in name
    and "_fpt_" not in name
]
WITHOUT_CONFIGURATION = {
    "semantic_fpn_pvt_v2",  # only numbers in the paper
    "topformer_seg_tiny_160k_4x8",
    "topformer_seg_tiny_160k_448_4x8",
    "topformer_seg_small_160k_4x8",
}
OFFICIAL = [name for name in RECIPES if not name.startswith(tuple(WITHOUT_CONFIGURATION))]
TOPFORMER_SIDES = {"ade20k": "512x512", "pascal_context": "480x480", "cocostuff10k": "512x512"}


def config_of(recipe: str) -> str:
    """The official configuration of a recipe."""
    match = RUN.fullmatch(recipe)
    assert match is not None, recipe
    model, run = match[1], match[2]
    if model.startswith("topformer_seg"):
        folder, size = "topformer/local_configs/topformer", model.split("_")[2]
        if model.endswith("cityscapes"):
            end = {"tiny": "80k_2x8_city", "base": "80k_2x8city"}[size]
            return f"{folder}/topformer_{size}_1024x512_{end}.py"
        steps, data = run.split("_")[0], run.replace("_59", "").split("k_", 1)[1]
        data = data.removeprefix("448_").removeprefix("4x8_")
        sides = "448x448" if "_448" in run else TOPFORMER_SIDES[data]
        gpus = "4x8" if "4x8" in run else "2x8"
        end = data.replace("_", "") + ("_59" if run.endswith("_59") else "")
        return f"{folder}/topformer_{size}_{sides}_{steps}_{gpus}_{end}.py"
    parts = re.fullmatch(r"(\w+)_(pvt|p2t|gpvit)_(\w+)", model)
    assert parts is not None, recipe
    system, family, size = parts.groups()
    if family == "gpvit":
        return f"gpvit/downstream/mmsegmentation/configs/gpvit/gpvit_{size}_{system}.py"
    if family == "pvt":
        return f"pvt/segmentation/configs/sem_fpn/PVT/fpn_pvt_{size[0]}_ade20k_40k.py"
    return f"p2t/segmentation/configs/sem_fpn_p2t_{size[0]}_ade20k_80k.py"


@cache
def run_of(recipe: str) -> SemanticSegmentationRun:
    run = load_run(recipe, ["--data.root=somewhere"])
    assert isinstance(run, SemanticSegmentationRun)
    return run


def test_every_official_configuration_has_its_recipe() -> None:
    official = {
        name
        for name, facts in CONFIGS.items()
        if facts.get("model_type") == "EncoderDecoder" and facts["runner"] is not None
    }
    assert {config_of(recipe) for recipe in OFFICIAL} == official


def test_every_recipe_of_a_segmenter_belongs_to_a_card() -> None:
    named = {
        recipe
        for card in MODELS.values()
        if card.task == "semantic_segmentation" and card.neck is None
        for recipe in card.recipes
    }
    assert set(RECIPES) == named


@pytest.mark.parametrize("recipe", OFFICIAL)
def test_a_recipe_optimizes_as_the_official_configuration(recipe: str) -> None:
    official, run = CONFIGS[config_of(recipe)], run_of(recipe)
    assert official["optimizer"]["type"] == "AdamW"
    assert run.optimizer.lr == pytest.approx(official["optimizer"]["lr"])
    assert run.optimizer.weight_decay == official["optimizer"]["weight_decay"]
    assert list(run.optimizer.betas or ()) == official["optimizer"].get("betas", [0.9, 0.999])
    keys = official["optimizer"].get("paramwise_cfg", {}).get("custom_keys", {})
    assert run.optimizer.head_lr_factor == keys.get("head", {}).get("lr_mult", 1.0)
    clip = (official["optimizer_config"].get("grad_clip") or {}).get("max_norm")
    assert run.trainer.clip_norm == clip
    assert run.data.batch_size == official["samples_per_gpu"]
    assert run.trainer.precision == "32"
    assert official["fp16"] is None


@pytest.mark.parametrize("recipe", OFFICIAL)
def test_a_recipe_lasts_as_long_as_the_official_configuration(recipe: str) -> None:
    official, run = CONFIGS[config_of(recipe)], run_of(recipe)
    wanted = official["lr_config"]
    assert (run.trainer.max_epochs, run.trainer.max_steps) == (
        None,
        official["runner"]["max_iters"],
    )
    assert (run.schedule.kind, run.schedule.update) == (wanted["policy"], "step")
    assert run.schedule.power == wanted["power"]
    assert run.schedule.min_lr == wanted["min_lr"]
    assert run.schedule.warmup_steps == wanted.get("warmup_iters", 0)
    assert run.schedule.warmup_start == wanted.get("warmup_ratio")
