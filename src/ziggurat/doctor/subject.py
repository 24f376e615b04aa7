"""What is examined: a run with its data and its model, opened as training opens them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ziggurat.config.files import list_recipes, load_run, recipe_path
from ziggurat.config.tree import TrainConfig
from ziggurat.data.sampling import SeededBatchSampler
from ziggurat.engine.data import RunData, build_data, training_loader
from ziggurat.engine.model import build_model
from ziggurat.engine.processes import check_device, devices_and_nodes
from ziggurat.engine.schedule import Schedule, build_schedule
from ziggurat.inference.forward import choose_device
from ziggurat.inference.recipes import published_weights
from ziggurat.zoo import Model


@dataclass(frozen=True)
class Subject:
    """A run and all that it is made of.

    Attributes:
        config: The run.
        data: Its data.
        model: Its model, on the device, with the weights it starts from.
        fresh: The same model without weights, on the device; None where the run has no weights.
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
    fresh: Model | None
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
    data = build_data(config)
    batches = _batches(config, data, world_size)
    accumulate = min(config.trainer.accumulate, len(batches))
    schedule = build_schedule(config, len(batches))
    model = _build(config, data, device, use_weights=True)
    has_weights = config.model.weights or config.model.backbone_weights
    fresh = _build(config, data, device, use_weights=False) if has_weights else None
    return Subject(
        config,
        data,
        model,
        fresh,
        device,
        world_size,
        batches=batches,
        images_per_step=config.data.batch_size * world_size * accumulate,
        schedule=schedule,
        recipe=find_recipe(config, source),
    )


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


def _build(config: TrainConfig, data: RunData, device: torch.device, *, use_weights: bool) -> Model:
    torch.manual_seed(config.trainer.seed)  # both models begin with the same values
    return build_model(config, data, _say_nothing, use_weights=use_weights).to(device)


def _say_nothing(line: str) -> None:
    """Take a line about weights, which a check looks at itself."""
