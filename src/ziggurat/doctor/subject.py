"""What is examined: a run with its data and its model, opened as training opens them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ziggurat.checkpoints.description import Description
from ziggurat.checkpoints.matching import LoadReport
from ziggurat.checkpoints.native import is_native, read_description
from ziggurat.config.files import list_recipes, load_run, recipe_path
from ziggurat.config.tree import TrainConfig
from ziggurat.data.sampling import SeededBatchSampler
from ziggurat.engine.data import RunData, build_data, training_loader
from ziggurat.engine.distillation import Distillation, build_distillation
from ziggurat.engine.length import with_scaled_steps
from ziggurat.engine.model import build_model, prepare_model, start_from_weights
from ziggurat.engine.processes import check_device, check_sharded, devices_and_nodes
from ziggurat.engine.schedule import Schedule, build_schedule
from ziggurat.inference.forward import choose_device
from ziggurat.inference.recipes import published_weights
from ziggurat.pretrained import find_weights, source_of
from ziggurat.zoo import Model


@dataclass(frozen=True)
class Subject:
    """A run and all that it is made of.

    Attributes:
        config: The run, with its steps scaled where it asks for that.
        data: Its data.
        model: Its model, on the device, with the weights it starts from, as it is trained.
        frozen: Parts of the model that do not learn and stay in evaluation mode.
        distillation: What the model learns from a teacher, on the device, or None.
        fresh: The same model without weights, on the device; None where the run has no weights.
        absent: Entries of the model that its weights are not meant to fill, such as what a detector
            adds to the backbone of a classifier.
        description: What the file of `model.weights` says of itself; None where there is none, or
            it is not one of ours.
        device: Where it computes.
        world_size: Number of processes that train together.
        batches: Which images make which batch.
        images_per_step: Images of an optimizer step over all devices.
        schedule: Its learning rate, and the number of its steps.
        recipe: Recipe that the run is of, or that its model was published with; None if there is
            none.
    """

    config: TrainConfig
    data: RunData
    model: Model
    frozen: tuple[nn.Module, ...]
    distillation: Distillation | None
    fresh: Model | None
    absent: frozenset[str]
    description: Description | None
    device: torch.device
    world_size: int
    batches: SeededBatchSampler
    images_per_step: int
    schedule: Schedule
    recipe: str | None

    @property
    def published(self) -> TrainConfig | None:
        """The recipe as it was published, for the data of this run."""
        if self.recipe is None:
            return None
        return load_run(self.recipe, [f"--data.root={self.config.data.root}"])

    @property
    def published_weights(self) -> str | None:
        """File that the recipe's published run starts from; None where it starts anew."""
        return None if self.recipe is None else published_weights(self.recipe)

    def train(self) -> None:
        """Let the model learn, all but the parts that do not."""
        self.model.train()
        for part in self.frozen:
            part.eval()


def open_run(config: TrainConfig, source: str | Path) -> Subject:
    """Open data and model, with the errors that training would raise.

    Args:
        config: The run.
        source: Recipe or file that it was read from.
    """
    device = choose_device(config.trainer.accelerator)
    devices, nodes = devices_and_nodes(config.trainer)
    there = torch.cuda.device_count() if device.type == "cuda" else 1
    world_size = (devices or there) * nodes
    check_device(config.trainer, device.type, world_size)
    if config.trainer.strategy == "fsdp":
        check_sharded(config, is_alone=world_size == 1)
    data = build_data(config)
    recipe = find_recipe(config, source)
    config = with_scaled_steps(config, data, world_size)
    batches = _batches(config, data, world_size)
    accumulate = min(config.trainer.accumulate, len(batches))
    schedule = build_schedule(config, len(batches))
    model = _build(config, data)
    report = start_from_weights(model, config, _say_nothing)
    frozen = prepare_model(model, config, _say_nothing)
    distillation = build_distillation(config, model, _say_nothing)
    if distillation is not None:
        distillation.to(device)
    subject = Subject(
        config,
        data,
        model.to(device),
        tuple(frozen),
        distillation,
        fresh=None if report is None else _build(config, data).to(device),
        absent=frozenset() if report is None else _absent(config, report),
        description=_describe_weights(config, model),
        device=device,
        world_size=world_size,
        batches=batches,
        images_per_step=config.data.batch_size * world_size * accumulate,
        schedule=schedule,
        recipe=recipe,
    )
    subject.train()
    return subject


def find_recipe(config: TrainConfig, source: str | Path) -> str | None:
    """Return the recipe that a run is of; of a file the nearest recipe of its model.

    Args:
        config: The run.
        source: Recipe or file that it was read from.
    """
    if isinstance(source, str) and source in list_recipes():
        return source
    if config.model.backbone is not None:  # parts of one's own
        return None
    # Every recipe needs a folder; which one makes no difference to what is compared.
    root = [f"--data.root={config.data.root}"]
    named = [name for name in list_recipes() if _trains(name, config.model.name)]
    alike = {name: _num_alike(config, load_run(name, root)) for name in named}
    return max(alike, key=lambda name: alike[name], default=None)


def _trains(recipe: str, model: str) -> bool:
    return f"  name: {model}\n" in recipe_path(recipe).read_text(encoding="utf-8")


def _num_alike(config: TrainConfig, other: TrainConfig) -> int:
    sections = ("data", "optimizer", "schedule", "trainer")
    return sum(
        vars(getattr(other, section)).get(name) == value
        for section in sections
        for name, value in vars(getattr(config, section)).items()
    )


def _batches(config: TrainConfig, data: RunData, world_size: int) -> SeededBatchSampler:
    without_workers: Any = replace(config.data, workers=0)  # of the same kind of data
    config = replace(config, data=without_workers)
    return training_loader(data, config, rank=0, world_size=world_size).batches


def _build(config: TrainConfig, data: RunData) -> Model:
    torch.manual_seed(config.trainer.seed)  # both models begin with the same values
    return build_model(config, data, _say_nothing, use_weights=False)


def _absent(config: TrainConfig, report: LoadReport) -> frozenset[str]:
    prefix = "" if config.model.backbone_weights is None else "backbone."
    return frozenset(prefix + name for name, _ in report.absent)


def _describe_weights(config: TrainConfig, model: Model) -> Description | None:
    if config.model.weights is None:
        return None
    path = find_weights(model.identity.name, source_of(config.model.weights))
    return read_description(path) if is_native(path) else None


def _say_nothing(line: str) -> None:
    """Take a line that training says at its beginning; the checks say what there is to say."""
