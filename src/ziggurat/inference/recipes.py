"""What `ziggurat list --recipes` says of a recipe: result, size, length, data, command."""

import re
from dataclasses import dataclass
from functools import cache

import torch

from ziggurat.cards import MODELS
from ziggurat.config.files import list_recipes, load_run, read_tree, recipe_path
from ziggurat.config.tree import ModelConfig, TrainConfig
from ziggurat.types import Task
from ziggurat.zoo import create_model

DATA_SETS = {
    "from_scratch": "your own",
    "imagenet": "ImageNet-1k",
    "pascal_context_59": "Pascal Context, 59 classes",
    "pascal_context": "Pascal Context, 60 classes",
    "cocostuff10k": "COCO-Stuff 10k",
    "coco": "COCO 2017",
    "ade20k": "ADE20K",
    "cityscapes": "Cityscapes",
    "voc2012": "Pascal VOC 2012",
}
"""Data sets by the part of a recipe's name that names them; the first that is there counts."""


@dataclass(frozen=True)
class RecipeFacts:
    """A training run that comes with the package.

    Attributes:
        recipe: Its name.
        task: What its model does.
        model: Name of the model.
        published: What is published for this very run, "" where no number is.
        source: Where the model is published, "" where it is not.
        parameters: Number of parameters of the model.
        epochs: Its length, or None where it counts steps.
        steps: Optimizer steps, or None where it counts epochs.
        images_per_step: Images of a step over all devices of the published run.
        devices: Number of those.
        data: Data set.
        backbone_weights: Published file that the backbone of the published run starts from; None
            where it starts anew.
        command: How to start it.
    """

    recipe: str
    task: Task
    model: str
    published: str
    source: str
    parameters: int
    epochs: int | None
    steps: int | None
    images_per_step: int
    devices: int
    data: str
    backbone_weights: str | None
    command: str


def describe_recipe(recipe: str) -> RecipeFacts:
    """Gather what is known of a recipe.

    Args:
        recipe: Its name.
    """
    run = load_run(recipe, ["--data.root=DIR"])
    card = MODELS.get(run.model.name)
    has_result = card is not None and recipe in card.recipes
    devices = _published_devices(recipe)
    weights = published_weights(recipe)
    start = f"ziggurat train {recipe} --data.root DIR"
    return RecipeFacts(
        recipe=recipe,
        task=run.task,
        model=_model_of(run),
        published=card.result_of(recipe) if card is not None and has_result else "",
        source=card.source if card is not None and has_result else "",
        parameters=_count_parameters(run.model),
        epochs=run.trainer.max_epochs,
        steps=run.trainer.max_steps,
        images_per_step=devices * run.data.batch_size * run.trainer.accumulate,
        devices=devices,
        data=next(data for part, data in DATA_SETS.items() if f"_{part}" in recipe),
        backbone_weights=weights,
        command=start if weights is None else f"{start} --model.backbone_weights {weights}",
    )


def recipes_of_task(task: str | None) -> list[str]:
    """Return the names of the recipes whose model does a task, of all without one."""
    names = list_recipes()
    if task is None:
        return names
    return [name for name in names if read_tree(name)["task"] == task]


def _model_of(run: TrainConfig) -> str:
    parts = (run.model.name, run.model.neck, run.model.backbone)
    return "_".join(part for part in parts if part is not None)


def _published_devices(recipe: str) -> int:
    """Return the number of devices that the header of a recipe names, 1 where it names none."""
    found = re.search(r"# Hardware: (\d+) GPUs? x ", _header(recipe))
    return 1 if found is None else int(found[1])


def published_weights(recipe: str) -> str | None:
    """Return the file that the command in the header of a recipe starts from, if any.

    Args:
        recipe: Its name.
    """
    found = re.search(r"--model\.backbone_weights (\S+)", _header(recipe))
    return None if found is None else found[1]


def _header(recipe: str) -> str:
    return recipe_path(recipe).read_text(encoding="utf-8").partition("task:")[0]


@cache
def _count_parameters(wanted: ModelConfig) -> int:
    """Count those of a recipe's model, for the classes that it was published for."""
    with torch.device("meta"):
        model = create_model(
            wanted.name,
            backbone=wanted.backbone,
            neck=wanted.neck,
            head_channels=wanted.head_channels,
            head_depth=wanted.head_depth,
            self_levels=wanted.self_levels,
            grounding_window=wanted.grounding_window,
            auxiliary_head=wanted.auxiliary_head,
        )
    return sum(parameter.numel() for parameter in model.parameters())
