"""A training run as one tree of typed, frozen dataclasses."""

from ziggurat.config.data import ClassificationData, DetectionData, SegmentationData
from ziggurat.config.distillation import DistillationConfig
from ziggurat.config.files import list_recipes, load_run, recipe_path, run_to_yaml
from ziggurat.config.optimizer import OptimizerConfig
from ziggurat.config.schedule import ScheduleConfig
from ziggurat.config.tree import (
    ClassificationRun,
    DetectionRun,
    InstanceSegmentationRun,
    KeypointDetectionRun,
    ModelConfig,
    SemanticSegmentationRun,
    TrainConfig,
    TrainerConfig,
)

__all__ = [
    "ClassificationData",
    "ClassificationRun",
    "DetectionData",
    "DetectionRun",
    "DistillationConfig",
    "InstanceSegmentationRun",
    "KeypointDetectionRun",
    "ModelConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "SegmentationData",
    "SemanticSegmentationRun",
    "TrainConfig",
    "TrainerConfig",
    "list_recipes",
    "load_run",
    "recipe_path",
    "run_to_yaml",
]
