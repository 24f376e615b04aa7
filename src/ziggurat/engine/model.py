"""The model of a run: built from its configuration, fitted to the data, started from weights."""

import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from ziggurat.backbones.timm_backbone import TimmBackbone
from ziggurat.checkpoints.matching import LoadReport
from ziggurat.checkpoints.native import is_native, load_into
from ziggurat.checkpoints.official import load_official
from ziggurat.config.loss import LossConfig
from ziggurat.config.tree import TrainConfig
from ziggurat.data.class_frequency import class_pixels
from ziggurat.data.class_masks import ClassMaskFolder
from ziggurat.data.label_folder import LabelFolder
from ziggurat.engine.data import RunData
from ziggurat.engine.depth import freeze_norms, freeze_stages
from ziggurat.engine.memory import runs_on_cpu
from ziggurat.engine.regions import limit_regions
from ziggurat.errors import ZigguratError
from ziggurat.fast.compiler import KernelUnavailableError
from ziggurat.fast.training import use_training_kernel
from ziggurat.layers.checkpointing import (
    checkpointed_parts,
    has_statistics,
    set_checkpointing,
)
from ziggurat.losses.class_balance import median_frequency_weights
from ziggurat.losses.segmentation import SegmentationLoss
from ziggurat.models.classifier import Classifier
from ziggurat.models.detector import Detector
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.necks.fpt import find_transformer
from ziggurat.preprocessing import CenterCrop, FitAligned, FitInside
from ziggurat.pretrained import (
    find_weights,
    load_pretrained_backbone,
    refuse_average,
    source_of,
)
from ziggurat.zoo import Model, create_model, task_of


def build_model(
    config: TrainConfig, data: RunData, say: Callable[[str], None], *, use_weights: bool
) -> Model:
    """Build the model of a run, with the classes and the preprocessing of its data.

    Args:
        config: The run.
        data: Data of the run.
        say: Is told which weights were loaded.
        use_weights: Whether to load the weights that the run starts from; no where it goes on
            from a checkpoint.

    Raises:
        ZigguratError: If the name, the number of classes or the weights do not fit.
    """
    wanted = config.model
    num_classes = wanted.num_classes or len(data.classes)
    if num_classes < len(data.classes):
        raise ZigguratError(
            f"model.num_classes must be at least the {len(data.classes)} classes of "
            f"{config.data.root}, got {num_classes}; leave it out to take the number of the data"
        )
    if task_of(wanted.name) != config.task:
        raise ZigguratError(
            f"model.name of a {config.task} run must be a {config.task} model, got "
            f"{wanted.name!r}, which does {task_of(wanted.name)}"
        )
    model = create_model(
        wanted.name,
        backbone=wanted.backbone,
        neck=wanted.neck,
        num_classes=num_classes,
        head_channels=wanted.head_channels,
        head_depth=wanted.head_depth,
        drop_path_rate=wanted.drop_path_rate,
        overlapping=data.overlapping,
        key_budget=wanted.key_budget,
        self_levels=wanted.self_levels,
        grounding_window=wanted.grounding_window,
        drop_block=wanted.drop_block,
        num_keypoints=None if data.skeleton is None else len(data.skeleton),
        auxiliary_head=wanted.auxiliary_head,
    )
    model.classes = data.classes + tuple(
        f"class_{number}" for number in range(len(data.classes), num_classes)
    )
    if isinstance(model, Detector) and data.skeleton is not None:
        model.skeleton = data.skeleton
    _set_preprocessing(model, config, data)
    if isinstance(model, SemanticSegmenter):
        assert isinstance(data.train, LabelFolder | ClassMaskFolder)
        palette = data.train.rule.palette
        model.palette = palette if num_classes == len(data.classes) else None
    if isinstance(model, SemanticSegmenter) and config.task == "semantic_segmentation":
        model.training_loss = _training_loss(config.loss, data)
        model.training_loss.check(num_classes, overlapping=data.overlapping)
    if use_weights:
        start_from_weights(model, config, say)
    return model.to(memory_format=torch.channels_last).train()


def prepare_model(model: Model, config: TrainConfig, say: Callable[[str], None]) -> list[nn.Module]:
    """Set what changes how a model trains, not what it is.

    Args:
        model: The model of the run.
        config: The run.
        say: Is told what is frozen, and what cannot be had.

    Returns:
        Parts that do not learn and must stay in evaluation mode.

    A backbone with fewer stages, or without blocks that can be computed again, and a limit of
    regions for a model without regions are `ZigguratError`s, too.

    Raises:
        ZigguratError: If blocks with batch norms are to be compiled and computed again.
    """
    if config.model.train_regions is not None:
        limit_regions(model, config.model.train_regions)
    if config.trainer.checkpoint_activations:
        if config.trainer.compile and any(map(has_statistics, checkpointed_parts(model))):
            raise ZigguratError(
                "trainer.compile must be false with trainer.checkpoint_activations where blocks "
                f"have batch norms, as those of {model.identity.name}, got true"
            )
        _compute_again(model, say)
    if config.trainer.use_kernel and _can_use_kernel(config):
        try:
            use_training_kernel(model)
        except KernelUnavailableError as error:
            say(
                f"trains without the feed-forward kernel, slower and in more memory: {error} "
                "(trainer.use_kernel=false does without it, too)"
            )
    return _freeze(model, config, say)


def _compute_again(model: Model, say: Callable[[str], None]) -> None:
    """Let blocks be computed again for their gradients, wherever a model has any."""
    if not isinstance(model.backbone, TimmBackbone):
        set_checkpointing(model, True)
        return
    transformer = find_transformer(model)
    if transformer is None:
        model.backbone.set_grad_checkpointing()
        return
    set_checkpointing(transformer, True)
    try:
        model.backbone.set_grad_checkpointing()
    except ZigguratError:
        say(
            "trainer.checkpoint_activations holds for the Feature Pyramid Transformer alone: "
            f"{model.identity.backbone} has no gradient checkpointing"
        )


def _freeze(model: Model, config: TrainConfig, say: Callable[[str], None]) -> list[nn.Module]:
    wanted = config.model
    if wanted.freeze_stages is None and not wanted.freeze_norms:
        return []
    if wanted.weights is None and wanted.backbone_weights is None:
        raise ZigguratError(
            "model.freeze_stages and model.freeze_norms keep parts of the backbone as they are, "
            "and without weights they are random; give model.backbone_weights, or train all "
            "with model.freeze_stages null and model.freeze_norms false"
        )
    if wanted.freeze_norms and config.trainer.sync_batch_norm:
        raise ZigguratError(
            "model.freeze_norms lets the backbone's batch norms gather no statistics, and "
            "trainer.sync_batch_norm gathers them over all processes; choose one of the two"
        )
    frozen = []
    if wanted.freeze_stages is not None:
        frozen += freeze_stages(model, wanted.freeze_stages, say)
    if wanted.freeze_norms:
        frozen += freeze_norms(model, say)
    return frozen


def _can_use_kernel(config: TrainConfig) -> bool:
    wanted = config.trainer
    return runs_on_cpu(wanted) and not wanted.compile and wanted.strategy != "fsdp"


def _set_preprocessing(model: Model, config: TrainConfig, data: RunData) -> None:
    if isinstance(model, Classifier) and isinstance(data.preprocessing, CenterCrop):
        model.preprocessing = data.preprocessing
        if config.task == "classification":
            model.head.label_smoothing = config.data.label_smoothing
        return
    if isinstance(model, Detector) and isinstance(data.preprocessing, FitInside):
        model.preprocessing = data.preprocessing
    if isinstance(model, SemanticSegmenter) and isinstance(data.preprocessing, FitAligned):
        model.preprocessing = data.preprocessing


def _training_loss(config: LossConfig, data: RunData) -> SegmentationLoss:
    """Return what a segmenter learns from.

    Raises:
        ZigguratError: If classes that may overlap are to be balanced.
    """
    options = dataclasses.asdict(config)
    if config.class_weights == "balanced":
        if not isinstance(data.train, LabelFolder):
            raise ZigguratError(
                "loss.class_weights must be null or a list for classes that may overlap, got "
                "'balanced', which counts label maps"
            )
        weights = median_frequency_weights(*class_pixels(data.train.pairs, data.train.rule))
        unknown = (1.0,) * (len(data.classes) - len(weights))
        options["class_weights"] = (*weights.tolist(), *unknown)
    return SegmentationLoss(**options)


def start_from_weights(
    model: Model, config: TrainConfig, say: Callable[[str], None]
) -> LoadReport | None:
    """Load the weights that a run starts from, into the model or into its backbone.

    Args:
        model: Receives the weights.
        config: The run.
        say: Is told what was loaded.

    Returns:
        What became of every entry, those of `model.backbone_weights` by their names in the
        backbone; None where the run starts anew.
    """
    wanted = config.model
    if wanted.backbone_weights is not None:
        name, source = model.identity.backbone, source_of(wanted.backbone_weights)
        report = load_pretrained_backbone(model.backbone, name, source, use_ema=wanted.use_ema)
    elif wanted.weights is not None:
        path = find_weights(model.identity.name, source_of(wanted.weights))
        if is_native(path):
            refuse_average(path, wanted.use_ema)
            report = load_into(model, path, reset_classes=wanted.reset_classes)
        else:
            report = load_official(
                model, path, reset_classes=wanted.reset_classes, use_ema=wanted.use_ema
            )
    else:
        return None
    say(report.summary())
    return report
