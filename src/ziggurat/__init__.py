"""Ziggurat: pyramid vision transformers for PyTorch.

The names below are public; the rest may change. They are imported when they are first used, so
that `ziggurat --help` need not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ziggurat.timm_bridge import hook as _timm_hook

if TYPE_CHECKING:
    from ziggurat.checkpoints.matching import LoadReport
    from ziggurat.checkpoints.native import save_weights
    from ziggurat.checkpoints.official import load_official
    from ziggurat.config.files import load_run
    from ziggurat.data.check import check_dataset
    from ziggurat.data.findings import DatasetCheck
    from ziggurat.data.synthesize import synthesize
    from ziggurat.engine.train import RunResult, train
    from ziggurat.errors import ZigguratError
    from ziggurat.fast.inference import optimize_for_inference
    from ziggurat.fast.training import optimize_for_training
    from ziggurat.inference.augmented import Augmentation
    from ziggurat.inference.evaluation import evaluate
    from ziggurat.inference.evaluation_options import EvaluationOptions
    from ziggurat.inference.evaluation_result import Evaluation
    from ziggurat.inference.label_reevaluation import evaluate_label_files
    from ziggurat.inference.predictor import Prediction, Predictor, load
    from ziggurat.inference.reevaluation import evaluate_results
    from ziggurat.inference.sliding import SlidingWindows
    from ziggurat.inference.tiles import Tiles
    from ziggurat.metrics.base import Report
    from ziggurat.necks.fpt import FeaturePyramidTransformer
    from ziggurat.ops.box_voting import Voting
    from ziggurat.ops.nms import Suppression
    from ziggurat.pretrained import create_backbone, create_model, load_pretrained
    from ziggurat.types import ClassMasks, ClassScores, Detections, LabelMap
    from ziggurat.weights.hub import push
    from ziggurat.zoo import list_models

__version__ = "0.1.0"

_HOMES = {
    "Augmentation": "ziggurat.inference.augmented",
    "ClassMasks": "ziggurat.types",
    "ClassScores": "ziggurat.types",
    "DatasetCheck": "ziggurat.data.findings",
    "Detections": "ziggurat.types",
    "Evaluation": "ziggurat.inference.evaluation_result",
    "EvaluationOptions": "ziggurat.inference.evaluation_options",
    "FeaturePyramidTransformer": "ziggurat.necks.fpt",
    "LabelMap": "ziggurat.types",
    "LoadReport": "ziggurat.checkpoints.matching",
    "Prediction": "ziggurat.inference.predictor",
    "Predictor": "ziggurat.inference.predictor",
    "Report": "ziggurat.metrics.base",
    "RunResult": "ziggurat.engine.train",
    "SlidingWindows": "ziggurat.inference.sliding",
    "Suppression": "ziggurat.ops.nms",
    "Tiles": "ziggurat.inference.tiles",
    "Voting": "ziggurat.ops.box_voting",
    "ZigguratError": "ziggurat.errors",
    "check_dataset": "ziggurat.data.check",
    "create_backbone": "ziggurat.pretrained",
    "create_model": "ziggurat.pretrained",
    "evaluate": "ziggurat.inference.evaluation",
    "evaluate_label_files": "ziggurat.inference.label_reevaluation",
    "evaluate_results": "ziggurat.inference.reevaluation",
    "list_models": "ziggurat.zoo",
    "load": "ziggurat.inference.predictor",
    "load_official": "ziggurat.checkpoints.official",
    "load_pretrained": "ziggurat.pretrained",
    "load_run": "ziggurat.config.files",
    "optimize_for_inference": "ziggurat.fast.inference",
    "optimize_for_training": "ziggurat.fast.training",
    "push": "ziggurat.weights.hub",
    "save_weights": "ziggurat.checkpoints.native",
    "synthesize": "ziggurat.data.synthesize",
    "train": "ziggurat.engine.train",
}

__all__ = [
    "Augmentation",
    "ClassMasks",
    "ClassScores",
    "DatasetCheck",
    "Detections",
    "Evaluation",
    "EvaluationOptions",
    "FeaturePyramidTransformer",
    "LabelMap",
    "LoadReport",
    "Prediction",
    "Predictor",
    "Report",
    "RunResult",
    "SlidingWindows",
    "Suppression",
    "Tiles",
    "Voting",
    "ZigguratError",
    "check_dataset",
    "create_backbone",
    "create_model",
    "evaluate",
    "evaluate_label_files",
    "evaluate_results",
    "list_models",
    "load",
    "load_official",
    "load_pretrained",
    "load_run",
    "optimize_for_inference",
    "optimize_for_training",
    "push",
    "save_weights",
    "synthesize",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ziggurat' has no attribute {name!r}")
    try:
        home = import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        if not _HOMES[name].startswith("ziggurat.engine."):
            raise
        from ziggurat.errors import ZigguratError

        raise ZigguratError(
            f"training needs {error.name}, which is not installed; "
            "run `pip install 'ziggurat[train]'`"
        ) from error
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


_timm_hook.install()  # timm.create_model("p2t_small") works from here on
