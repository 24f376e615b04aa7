"""Every recipe of the package says how it runs, builds its model, and optimizes as published."""

import re
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch import nn

from ziggurat.cards import MODELS
from ziggurat.config import list_recipes, load_run, recipe_path
from ziggurat.config.tree import TrainConfig
from ziggurat.engine.optimizer import build_optimizer, scaled_lr
from ziggurat.engine.schedule import Schedule
from ziggurat.zoo import Model, create_model

RECIPES = list_recipes()
PUBLISHED = [name for name in RECIPES if "from_scratch" not in name]
CLASSIFIERS = [name for name in PUBLISHED if name.endswith("imagenet")]

SIZE = r"_(tiny|small|medium|base|large|b\d_li|b\d|l\d)(?=_)|(?<=resnet)\d+"
SMALLEST = {re.sub(SIZE, "", name): name for name in reversed(RECIPES)}.values()
"""One recipe of those that differ in the size of the backbone alone."""
BUILT = [pytest.param(name, marks=[] if name in SMALLEST else pytest.mark.slow) for name in RECIPES]

IMAGENET = 1_281_167
COCO = 117_266


@cache
def run_of(recipe: str) -> TrainConfig:
    return load_run(recipe, ["--data.root=somewhere"])


@cache
def model_of(name: str, backbone: str | None, neck: str | None) -> Model:
    with torch.device("meta"):
        return create_model(name, backbone=backbone, neck=neck)


def header_of(recipe: str) -> str:
    """The comment at the beginning, as one line."""
    return recipe_path(recipe).read_text().partition("task:")[0].replace("\n# ", " ")


def devices_of(recipe: str) -> int:
    found = re.search(r"Hardware: (\d+) GPUs x (\d+) images?\. ", header_of(recipe))
    assert found is not None
    assert int(found[2]) == run_of(recipe).data.batch_size
    return int(found[1])


# headers


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_the_header_of_a_recipe_tells_how_to_run_it(recipe: str) -> None:
    run, text, devices = run_of(recipe), header_of(recipe), devices_of(recipe)
    images = devices * run.data.batch_size * run.trainer.accumulate
    assert f" {recipe} " in text
    start = "--nnodes 2 --nproc_per_node 8" if devices == 16 else f"--nproc_per_node {devices}"
    assert start in text
    assert re.search(rf"keep images per step (\(.*?\) )?at {images:d}[, ]", text)
    # ImageNet runs state their learning rate for another batch than that of a step.
    if run.task != "classification":
        assert run.optimizer.reference_batch == images
    steps = run.trainer.max_steps
    length = f"{run.trainer.max_epochs} epochs" if steps is None else f"{steps:,} steps"
    assert length in text
    assert re.search(r"Hours: (not |\d)", text)
    assert ("here bf16" in text) == (run.trainer.precision == "bf16")


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_the_header_of_a_recipe_tells_where_it_starts_from_averaged_weights(recipe: str) -> None:
    is_topformer = recipe.startswith("topformer_seg")
    assert ("--model.use_ema true" in header_of(recipe)) == is_topformer


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_the_header_of_a_recipe_tells_its_result(recipe: str) -> None:
    run, text = run_of(recipe), header_of(recipe)
    card = MODELS.get(run.model.name)
    if card is None or recipe not in card.recipes:
        return
    result = card.result_of(recipe)
    if result[:1].isdecimal() and card.neck is None:
        first = text.partition("Hardware")[0]
        for number in re.findall(r"\d+\.\d", result.partition("(")[0]):
            assert number in first
        assert "published" in first
    if card.recipes[0] == recipe or card.neck or run.task == "semantic_segmentation":
        assert card.drop_path_rate == run.model.drop_path_rate


def test_every_published_model_has_a_recipe() -> None:
    without = {card.name for card in MODELS.values() if not card.recipes}
    assert without == {"pvt_huge_v2", "p2t_medium"}  # of which no weights were released
    named = [recipe for card in MODELS.values() for recipe in card.recipes]
    assert len(named) == len(set(named))
    assert set(named) <= set(RECIPES)


# optimizer


def of_official_list(model: nn.Module, *kept: str) -> set[str]:
    """What timm leaves undecayed: vectors, biases, and names that a model lists."""
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim == 1 or name.endswith((".bias", *kept))
    }


def of_mmcv(model: nn.Module) -> set[str]:
    """What MMCV leaves undecayed for GPViT: norms, biases but depthwise ones, and two names."""
    modules = dict(model.named_modules())

    def names() -> Iterator[str]:
        for name, _ in model.named_parameters():
            owner, _, own = name.rpartition(".")
            module = modules[owner]
            is_depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
            is_norm = isinstance(module, nn.LayerNorm | nn.BatchNorm2d)
            is_named = own in ("pos_embed", "group_token")
            if is_norm or is_named or (own == "bias" and not is_depthwise):
                yield name

    return set(names())


@pytest.mark.parametrize("recipe", BUILT)
def test_a_recipe_builds_its_model_and_its_groups(recipe: str) -> None:
    run = run_of(recipe)
    model = model_of(run.model.name, run.model.backbone, run.model.neck)
    assert model.identity.task == run.task
    wanted = run.optimizer
    optimizer = build_optimizer(model, wanted, wanted.lr, is_fused=False)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates: dict[str, float] = {}
    undecayed: set[str] = set()
    for group in optimizer.param_groups:
        assert group["weight_decay"] in (0.0, wanted.weight_decay)
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name not in rates
            rates[name] = group["lr"] / wanted.lr
            if group["weight_decay"] == 0:
                undecayed.add(name)
    assert set(rates) == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, rate in rates.items():
        expected = 1.0
        if recipe.startswith("detr") and name.startswith("backbone."):
            expected = 0.1
        if recipe.startswith(("topformer_seg", "segformer_gpvit")) and "head." in name:
            expected = 1.0 if "from_scratch" in recipe else 10.0
        if wanted.kind == "sgd" and name.endswith("bias"):
            expected = 2.0
        assert rate == pytest.approx(expected), name
    if recipe.startswith("topformer") and run.task == "classification":
        assert undecayed == set()
    elif recipe.startswith("gpvit"):
        assert undecayed == of_mmcv(model)
    elif run.task == "classification":
        assert undecayed == of_official_list(
            model, *(["cls_token"] if "pvt_v2" not in recipe else [])
        )


# learning rate: points as the official code computes them, step and share of the full rate

STEPS_1X = {0: 0.001, 250: 0.5005, 500: 1.0, 58_639: 1.0, 58_640: 0.1, 80_629: 0.1, 80_630: 0.01}
STEPS_3X = {0: 0.001, 250: 0.5005, 500: 1.0, 197_909: 1.0, 197_910: 0.1, 241_890: 0.01}
STEPS_50E = {0: 1.0, 241_889: 1.0, 241_890: 0.1, 366_499: 0.1}
FPT_180K = {0: 1 / 3, 250: 2 / 3, 500: 1.0, 119_999: 1.0, 120_000: 0.1, 160_000: 0.01}
FPT_120K = {0: 1 / 3, 250: 2 / 3, 500: 1.0, 79_999: 1.0, 80_000: 0.1, 100_000: 0.01}
# 0.5^0.9 = 0.535887 half-way; MMSegmentation adds the least rate to what is above it.
POLY_40K = {0: 1.0, 10_000: 0.771890, 20_000: 0.535887, 39_999: 7.2135e-5}
POLY_80K = {0: 1.0, 20_000: 0.771890, 40_000: 0.535887, 79_999: 3.8656e-5}
POLY_80K_P2T = {0: 1.0, 40_000: 0.540528, 79_999: 0.0100383}
# A line times a warm-up from 1e-6: at 750 of 160,000 it is 0.9953125 x 0.5000005.
LINE_160K = {0: 1e-6, 750: 0.497657, 1500: 0.990625, 80_000: 0.5, 159_999: 6.25e-6}
LINE_80K = {0: 1e-6, 750: 0.495313, 1500: 0.98125, 40_000: 0.5, 79_999: 1.25e-5}
# timm by epochs of 1251 steps: two at the start, then one behind;
# the cosine is 0.01 + 0.495 (1 + cos(pi e / 300)).
EPOCHS_PVT = {
    0: 0.001,
    2 * 1251 - 1: 0.001,
    2 * 1251: 0.2008,
    5 * 1251: 0.8002,
    6 * 1251: 0.999322,
    151 * 1251: 0.505,
    299 * 1251: 0.010109,
}
EPOCHS_P2T = {
    0: 0.001,
    2 * 1251: 0.05095,
    20 * 1251: 0.95005,
    21 * 1251: 0.989183,
    151 * 1251: 0.505,
    299 * 1251: 0.010109,
}
# mmcls by steps, 625 an epoch: the warm-up of 9375 steps multiplies 0.01 + 0.495 (1 + cos).
STEPS_GPVIT = {
    0: 0.001,
    4687: 0.499680,
    9375: 0.993906,
    93_750: 0.505,
    187_499: 0.01,
}
# Paddle by epochs of 625 steps, one ahead: 30 of warm-up from 0.1, then 0.1 + 0.45 (1 + cos).
EPOCHS_PADDLE = {
    0: 0.13,
    28 * 625: 0.97,
    29 * 625: 1.0,
    164 * 625: 0.55,
    299 * 625: 0.1,
}
DETECTRON_1X = {0: 1 / 3, 250: 2 / 3, 500: 1.0, 59_999: 1.0, 60_000: 0.1, 80_000: 0.01}
CITYSCAPES_24K = {0: 1 / 3, 250: 2 / 3, 500: 1.0, 17_999: 1.0, 18_000: 0.1, 23_999: 0.1}
VOC_18K = {0: 1 / 3, 500: 1.0, 11_999: 1.0, 12_000: 0.1, 15_999: 0.1, 16_000: 0.01, 17_999: 0.01}
CURVES = {
    r"(?!keypoint).*_1x(_640)?_coco": STEPS_1X,
    r"keypoint_rcnn_resnet50_1x_coco": DETECTRON_1X,
    r"mask_rcnn_fpt_resnet50_24k_cityscapes": CITYSCAPES_24K,
    r"mask_rcnn_fpt_resnet50_18k_voc2012": VOC_18K,
    r".*_3x_coco": STEPS_3X,
    r"detr_.*_50e_coco": STEPS_50E,
    r"mask_rcnn_.*fpt_resnet.*_180k_coco": FPT_180K,
    r"faster_rcnn_.*fpt_resnet50.*_120k_coco": FPT_120K,
    r"semantic_fpn_.*_40k_\w+": POLY_40K,
    r"semantic_fpn_(fpt_)?pvt.*_80k_\w+": POLY_80K,
    r"semantic_fpn_p2t.*_80k_ade20k": POLY_80K_P2T,
    r"(upernet|segformer)_gpvit.*_160k_ade20k|topformer_seg_\w+_160k\w*": LINE_160K,
    r"topformer_seg_\w+_80k\w*": LINE_80K,
    r"pvt_.*_300e_imagenet": EPOCHS_PVT,
    r"p2t_.*_300e_imagenet": EPOCHS_P2T,
    r"gpvit_.*_300e_imagenet": STEPS_GPVIT,
    r"topformer_.*_300e_paddlevit_imagenet": EPOCHS_PADDLE,
}
STATED_LR = {
    r"pvt.*imagenet|p2t.*imagenet": 1e-3,
    r"gpvit.*imagenet": 2e-3,
    r"topformer.*imagenet": 4e-3,
}
"""Of the ImageNet runs at their own batch; those of the others are compared with configurations."""


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_the_learning_rate_of_a_recipe_is_the_official_one(recipe: str) -> None:
    run = run_of(recipe)
    (points,) = (points for pattern, points in CURVES.items() if re.fullmatch(pattern, recipe))
    images = devices_of(recipe) * run.data.batch_size
    # An epoch of COCO is counted at 16 images a step, whatever the recipe takes.
    steps_per_epoch = IMAGENET // images if recipe in CLASSIFIERS else -(-COCO // 16)
    total = run.trainer.total_steps(steps_per_epoch)
    schedule = Schedule(run.schedule, run.optimizer.lr, total, steps_per_epoch)
    for step, share in points.items():
        assert schedule.factor(step) == pytest.approx(share, rel=2e-4, abs=1e-9), step


@pytest.mark.parametrize("recipe", CLASSIFIERS)
def test_the_stated_learning_rate_of_an_imagenet_run(recipe: str) -> None:
    images = devices_of(recipe) * run_of(recipe).data.batch_size
    (expected,) = (lr for pattern, lr in STATED_LR.items() if re.fullmatch(pattern, recipe))
    assert scaled_lr(run_of(recipe).optimizer, images) == pytest.approx(expected)
