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
    from ziggurat.errors import ZigguratError
    from ziggurat.fast.inference import optimize_for_inference
    from ziggurat.fast.training import optimize_for_training
    from ziggurat.inference.predictor import Prediction, Predictor, load
    from ziggurat.pretrained import create_backbone, create_model, load_pretrained
    from ziggurat.weights.hub import push
    from ziggurat.zoo import list_models

__version__ = "0.1.0"

_HOMES = {
    "LoadReport": "ziggurat.checkpoints.matching",
    "Prediction": "ziggurat.inference.predictor",
    "Predictor": "ziggurat.inference.predictor",
    "ZigguratError": "ziggurat.errors",
    "create_backbone": "ziggurat.pretrained",
    "create_model": "ziggurat.pretrained",
    "list_models": "ziggurat.zoo",
    "load": "ziggurat.inference.predictor",
    "load_official": "ziggurat.checkpoints.official",
    "load_pretrained": "ziggurat.pretrained",
    "optimize_for_inference": "ziggurat.fast.inference",
    "optimize_for_training": "ziggurat.fast.training",
    "push": "ziggurat.weights.hub",
    "save_weights": "ziggurat.checkpoints.native",
}

__all__ = [
    "LoadReport",
    "Prediction",
    "Predictor",
    "ZigguratError",
    "create_backbone",
    "create_model",
    "list_models",
    "load",
    "load_official",
    "load_pretrained",
    "optimize_for_inference",
    "optimize_for_training",
    "push",
    "save_weights",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ziggurat' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


_timm_hook.install()  # timm.create_model("p2t_small") works from here on
