"""Recipes with a Feature Pyramid Transformer: the published schedules, and what they replace."""

import dataclasses
from functools import cache

import pytest

from ziggurat.cards import MODELS
from ziggurat.config import list_recipes, load_run
from ziggurat.config.data import DetectionData
from ziggurat.config.tree import TrainConfig

RECIPES = [name for name in list_recipes() if "_fpt_" in name]
PLAIN = {
    "mask_rcnn_fpt_pvt_v2_b2_1x_coco",
    "mask_rcnn_fpt_p2t_small_1x_coco",
    "retinanet_fpt_gpvit_l1_1x_coco",
    "semantic_fpn_fpt_pvt_v2_b2_80k_ade20k",
}
"""Like the run of the same name without it."""


@cache
def run_of(recipe: str) -> TrainConfig:
    return load_run(recipe, ["--data.root=somewhere"])


def test_every_model_has_its_recipes() -> None:
    assert {name for card in MODELS.values() if card.neck for name in card.recipes} == set(RECIPES)


@pytest.mark.parametrize(
    ("recipe", "milestones", "steps"),
    [
        ("faster_rcnn_fpt_resnet50_120k_coco", (80_000, 100_000), 120_000),
        ("faster_rcnn_panet_fpt_resnet50_caffe_120k_coco", (80_000, 100_000), 120_000),
        ("faster_rcnn_panet_2fc_fpt_resnet50_caffe_120k_coco", (80_000, 100_000), 120_000),
        ("mask_rcnn_panet_fpt_resnet50_caffe_180k_coco", (120_000, 160_000), 180_000),
        *(
            (f"mask_rcnn_fpt_resnet{depth}_180k_coco", (120_000, 160_000), 180_000)
            for depth in (50, 101, 152)
        ),
    ],
)
def test_runs_on_resnets_have_the_published_schedule(
    recipe: str, milestones: tuple[int, int], steps: int
) -> None:
    run = run_of(recipe)
    optimizer, schedule = run.optimizer, run.schedule
    assert (optimizer.kind, optimizer.lr, optimizer.reference_batch) == ("sgd", 0.05, 16)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
    assert optimizer.bias_lr_factor == 2.0
    assert set(optimizer.no_decay) == {"biases", "norms", "conv_norms"}
    assert schedule.warmup_steps == 500
    assert schedule.warmup_start == pytest.approx(1 / 3)
    assert (schedule.milestone_steps, schedule.gamma) == (milestones, 0.1)
    assert (run.trainer.max_epochs, run.trainer.max_steps) == (None, steps)
    assert isinstance(run.data, DetectionData)
    # As published: 1200 is drawn twice as often as the others.
    assert run.data.train_short_sides == (1200, 1200, 1000, 800, 600, 400)
    assert (run.data.short_side, run.data.long_side) == (1000, 1400)


def test_cityscapes_has_the_schedule_of_mask_rcnn() -> None:
    run = run_of("mask_rcnn_fpt_resnet50_24k_cityscapes")
    optimizer, schedule, data = run.optimizer, run.schedule, run.data
    assert isinstance(data, DetectionData) and data.train_short_sides is not None
    assert (optimizer.kind, optimizer.lr, optimizer.reference_batch) == ("sgd", 0.01, 8)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
    assert (schedule.milestone_steps, schedule.gamma) == ((18_000,), 0.1)
    assert run.trainer.max_steps == 24_000
    assert (data.short_side, data.long_side) == (1024, 2048)
    assert (min(data.train_short_sides), max(data.train_short_sides)) == (800, 1024)
    # What the paper does not say is as in the runs on COCO.
    other = run_of("mask_rcnn_fpt_resnet50_180k_coco")
    assert dataclasses.replace(optimizer, lr=0.05, reference_batch=16) == other.optimizer
    assert dataclasses.replace(schedule, milestone_steps=(120_000, 160_000)) == other.schedule


def test_voc_has_what_the_runs_on_coco_have_but_length_and_sizes() -> None:
    run, other = (run_of(f"mask_rcnn_fpt_resnet50_{name}") for name in ("18k_voc2012", "180k_coco"))
    optimizer, schedule, data = run.optimizer, run.schedule, run.data
    assert isinstance(data, DetectionData) and data.train_short_sides is not None
    assert (min(data.train_short_sides), max(data.train_short_sides)) == (480, 800)
    assert (optimizer.lr, optimizer.reference_batch, run.trainer.max_steps) == (0.02, 16, 18_000)
    assert dataclasses.replace(optimizer, lr=0.05) == other.optimizer
    assert schedule.milestone_steps == (12_000, 16_000)
    assert dataclasses.replace(schedule, milestone_steps=(120_000, 160_000)) == other.schedule


@pytest.mark.parametrize("recipe", sorted(PLAIN))
def test_other_runs_replace_the_neck_alone(recipe: str) -> None:
    run, plain = run_of(recipe), run_of(recipe.replace("_fpt", ""))
    assert run.model.name == plain.model.name.replace(
        run.model.name.split("_fpt_")[0], run.model.name.split("_fpt_")[0] + "_fpt"
    )
    assert dataclasses.replace(run, model=plain.model) == plain
