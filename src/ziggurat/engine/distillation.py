"""Distillation: a classifier learns from the labels and from another classifier, its teacher.

The teacher is frozen, in evaluation mode, draws no random numbers and is no part of what is saved.
"""

from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from ziggurat.backbones.timm_backbone import check_network_name
from ziggurat.checkpoints.class_rows import has_names
from ziggurat.checkpoints.native import is_native, load_weights
from ziggurat.checkpoints.read import read_checkpoint
from ziggurat.config.distillation import DistillationConfig
from ziggurat.config.tree import ClassificationRun, TrainConfig
from ziggurat.errors import ZigguratError, check_known
from ziggurat.losses.distillation import hard_distillation, soft_distillation
from ziggurat.models.classifier import Classifier
from ziggurat.preprocessing import CenterCrop
from ziggurat.pretrained import PUBLISHED, create_model, find_weights, source_of
from ziggurat.zoo import TIMM_PREFIX, Model, list_models


class Teacher:
    """A classifier that only answers.

    Args:
        network: Normalised images to logits.
        mean: Mean of each channel that it expects images to be normalised with.
        std: Standard deviation of each channel.
        image_size: Height and width of the images that it was made for.
        columns: Its class of each of the student's classes; None where they are the same.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        image_size: Sequence[int],
        columns: Sequence[int] | None = None,
    ) -> None:
        network = network.to(memory_format=torch.channels_last).eval()
        self.network = network.requires_grad_(False)
        self.mean, self.std = tuple(mean), tuple(std)
        self.image_size = tuple(image_size)
        self.columns: Int[Tensor, " K"] | None = None if columns is None else torch.tensor(columns)

    def to(self, device: torch.device) -> None:
        """Move to the device of the student."""
        self.network.to(device)
        self.columns = None if self.columns is None else self.columns.to(device)

    @torch.no_grad()
    def __call__(
        self, images: Float[Tensor, "B 3 H W"], student: CenterCrop
    ) -> Float[Tensor, "B K"]:
        """Return logits for the classes of the student.

        Args:
            images: What the student sees.
            student: How these are normalised.
        """
        if (student.mean, student.std) != (self.mean, self.std):
            scale = [own / new for own, new in zip(student.std, self.std, strict=True)]
            shift = [
                (own - new) / std
                for own, new, std in zip(student.mean, self.mean, self.std, strict=True)
            ]
            images = images * _per_channel(scale, images) + _per_channel(shift, images)
        if tuple(images.shape[2:]) != self.image_size:
            images = F.interpolate(images, self.image_size, mode="bicubic", antialias=True)
        logits: Tensor = self.network(images)
        return logits if self.columns is None else logits[:, self.columns]


class Distillation:
    """The student's losses, shared out between labels and teacher.

    Args:
        teacher: The teacher.
        student: How the student's images are normalised.
        config: Kind of the loss and share of the teacher.
    """

    def __init__(self, teacher: Teacher, student: CenterCrop, config: DistillationConfig) -> None:
        self.teacher = teacher
        self.student = student
        self.kind = config.kind or "hard"
        self.alpha = 0.5 if config.alpha is None else config.alpha
        self.temperature = 1.0 if config.temperature is None else config.temperature

    def to(self, device: torch.device) -> None:
        """Move the teacher."""
        self.teacher.to(device)

    def __call__(
        self,
        images: Float[Tensor, "B 3 H W"],
        logits: Float[Tensor, "B K"],
        losses: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the losses of the labels, less their share, and that of the teacher.

        Args:
            images: What the student has seen, mixed images too.
            logits: What it says.
            losses: Those of the labels.
        """
        taught = self.teacher(images, self.student)
        if self.kind == "soft":
            loss = soft_distillation(logits, taught, temperature=self.temperature)
        else:
            loss = hard_distillation(logits, taught)
        shared = {name: (1.0 - self.alpha) * value for name, value in losses.items()}
        return {**shared, "distillation": self.alpha * loss}


def build_distillation(
    config: TrainConfig, student: Model, say: Callable[[str], None]
) -> Distillation | None:
    """Build what a run has of it; None where it has no teacher.

    Args:
        config: The run.
        student: The model that is trained.
        say: Is told who teaches.
    """
    if not isinstance(config, ClassificationRun) or config.distillation.teacher is None:
        return None
    assert isinstance(student, Classifier)
    teacher = _build_teacher(config.distillation, config.distillation.teacher, student)
    distillation = Distillation(teacher, student.preprocessing, config.distillation)
    height, width = teacher.image_size
    say(
        f"{distillation.kind} distillation from {config.distillation.teacher}, which sees "
        f"{height} x {width} pixels: {distillation.alpha:g} of the loss"
    )
    return distillation


def _build_teacher(config: DistillationConfig, name: str, student: Classifier) -> Teacher:
    """Build a teacher for the classes of a student.

    Raises:
        ZigguratError: If there is no such network, or it knows other classes.
    """
    if name.startswith(TIMM_PREFIX):
        num_classes = len(student.classes)
        network = _timm_network(name.removeprefix(TIMM_PREFIX), config.weights, num_classes)
        facts = resolve_model_data_config(network)
        return Teacher(network, facts["mean"], facts["std"], facts["input_size"][1:])
    if config.is_file:
        model = load_weights(name)
    else:
        check_known("distillation.teacher", name, list_models(task="classification"))
        weights = find_weights(name, source_of(config.weights or PUBLISHED))
        if is_native(weights):
            raise ZigguratError(
                f"distillation.weights {config.weights} says itself what it holds; give it as "
                "distillation.teacher"
            )
        model = create_model(name, pretrained=weights)
    if not isinstance(model, Classifier):
        raise ZigguratError(
            f"distillation.teacher must be a classifier, got {name}, which does "
            f"{model.identity.task}"
        )
    side = model.preprocessing.crop
    columns = _columns(name, model, student)
    return Teacher(model, model.preprocessing.mean, model.preprocessing.std, (side, side), columns)


def _timm_network(name: str, weights: str | None, num_classes: int) -> nn.Module:
    """Build a network of timm with weights.

    Raises:
        ZigguratError: If timm lacks it, it has other classes, or its weights cannot be had.
    """
    check_network_name(name)
    try:
        options: dict[str, Any] = {} if weights is None else {"num_classes": num_classes}
        network: Any = timm.create_model(name, pretrained=weights is None, **options)
        if weights is not None:
            network.load_state_dict(read_checkpoint(weights))
    except ZigguratError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ZigguratError(
            f"the teacher {name!r} of timm cannot be had with "
            f"{'its published weights' if weights is None else weights}: {reason[:300]}; give a "
            "file that fits as distillation.weights, or another teacher"
        ) from error
    if network.num_classes != num_classes:
        raise ZigguratError(
            f"the teacher {name!r} of timm knows {network.num_classes} classes, the data have "
            f"{num_classes}; give weights for these classes as distillation.weights"
        )
    return network


def _columns(name: str, teacher: Classifier, student: Classifier) -> list[int] | None:
    """Find the student's classes among the teacher's.

    Raises:
        ZigguratError: If the teacher does not know one of them.
    """
    if teacher.classes == student.classes:
        return None
    is_named = has_names(teacher.classes)
    if not is_named and len(teacher.classes) == len(student.classes):
        return None  # an official file: it has no names, and the order of the data
    missing = [cls for cls in student.classes if cls not in teacher.classes]
    if missing or not is_named:
        known = f"{len(teacher.classes)} classes"
        raise ZigguratError(
            f"distillation.teacher {name} must know the {len(student.classes)} classes that are "
            f"learned, got one of {known}{f' without {missing[0]!r}' if is_named else ''}; train "
            "a teacher on these classes"
        )
    return [teacher.classes.index(cls) for cls in student.classes]


def _per_channel(values: Sequence[float], like: Tensor) -> Float[Tensor, "1 C 1 1"]:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)
