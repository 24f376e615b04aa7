"""Who can be measured: our models and backbones by name, and peers as `library:name`.

Every one gets fresh weights: speed does not depend on them, and nothing is downloaded.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.bench.detection import TorchvisionDetector
from ziggurat.cards import MODELS
from ziggurat.errors import ZigguratError, check_known
from ziggurat.zoo import (
    BACKBONES,
    NUM_CLASSES,
    TIMM_PREFIX,
    combination_of,
    create_backbone,
    create_model,
    refuse_unknown,
)

TRANSFORMERS_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "pvt-tiny": ("Pvt", {"depths": [2, 2, 2, 2]}),
    "pvt-small": ("Pvt", {"depths": [3, 4, 6, 3]}),
    "pvt-medium": ("Pvt", {"depths": [3, 4, 18, 3]}),
    "pvt-large": ("Pvt", {"depths": [3, 8, 27, 3]}),
    "pvt_v2_b0": ("PvtV2", {"depths": [2, 2, 2, 2], "hidden_sizes": [32, 64, 160, 256]}),
    "pvt_v2_b1": ("PvtV2", {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 320, 512]}),
    "pvt_v2_b2": ("PvtV2", {"depths": [3, 4, 6, 3], "hidden_sizes": [64, 128, 320, 512]}),
    "pvt_v2_b2_linear": (
        "PvtV2",
        {"depths": [3, 4, 6, 3], "hidden_sizes": [64, 128, 320, 512], "linear_attention": True},
    ),
    "pvt_v2_b3": ("PvtV2", {"depths": [3, 4, 18, 3], "hidden_sizes": [64, 128, 320, 512]}),
    "pvt_v2_b4": ("PvtV2", {"depths": [3, 8, 27, 3], "hidden_sizes": [64, 128, 320, 512]}),
    "pvt_v2_b5": (
        "PvtV2",
        {
            "depths": [3, 6, 40, 3],
            "hidden_sizes": [64, 128, 320, 512],
            "mlp_ratios": [4, 4, 4, 4],
        },
    ),
}
"""Names on the Hugging Face hub: family of classes, and what differs from its configuration."""

MAX_DETECTIONS = 100
"""Detections of an image; torchvision's dense detectors would give 300."""


def find_subject(name: str) -> Callable[[], nn.Module]:
    """Return what builds a model; building it is left to the caller.

    Args:
        name: Name of one of our models or backbones, or "timm:NAME", "torchvision:NAME",
            "transformers:NAME".

    An unknown name, or a library that is not installed, is a `ZigguratError`.
    """
    if name in MODELS or combination_of(name) is not None:
        # Peers skip no branches at random either.
        return partial(create_model, name, drop_path_rate=0.0)
    if name in BACKBONES:
        return partial(create_backbone, name)
    if not is_peer(name) or f"_{TIMM_PREFIX}" in name:
        refuse_unknown(name, BACKBONES)
    library, _, model = name.partition(":")
    check_known("library", library, PEERS)
    return PEERS[library](model)


def is_peer(name: str) -> bool:
    """Whether a name is that of another library's model."""
    return ":" in name and combination_of(name) is None


def _find_timm(name: str) -> Callable[[], nn.Module]:
    check_known("timm model", name, timm.list_models())
    return partial(timm.create_model, name, pretrained=False)


def _find_torchvision(name: str) -> Callable[[], nn.Module]:
    known = torchvision.models.list_models(module=torchvision.models)
    detectors = torchvision.models.list_models(module=torchvision.models.detection)
    if name in detectors:
        return partial(_build_torchvision_detector, name)
    check_known("torchvision classifier or detector", name, [*known, *detectors])
    return partial(torchvision.models.get_model, name, weights=None)


def _build_torchvision_detector(name: str) -> TorchvisionDetector:
    """Build it with as many classes and detections an image as ours have."""
    model = torchvision.models.get_model(
        name,
        weights=None,
        weights_backbone=None,
        num_classes=NUM_CLASSES["detection"] + 1,  # it counts the background
    )
    if hasattr(model, "detections_per_img"):
        model.detections_per_img = MAX_DETECTIONS
    return TorchvisionDetector(model)


def _find_transformers(name: str) -> Callable[[], nn.Module]:
    try:
        import transformers
    except ImportError as error:
        raise ZigguratError(
            f"'transformers:{name}' needs the package transformers, which is not installed; "
            "`pip install transformers` or leave the name out"
        ) from error
    check_known("transformers model", name, TRANSFORMERS_MODELS)
    family, numbers = TRANSFORMERS_MODELS[name]
    config = getattr(transformers, f"{family}Config")(num_labels=1000, **numbers)
    model_class = getattr(transformers, f"{family}ForImageClassification")
    return lambda: LogitsOf(model_class(config))


PEERS: dict[str, Callable[[str], Callable[[], nn.Module]]] = {
    "timm": _find_timm,
    "torchvision": _find_torchvision,
    "transformers": _find_transformers,
}


class LogitsOf(nn.Module):
    """Images to logits, for a classifier of transformers, which returns them as an attribute.

    Args:
        model: The classifier.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B K"]:
        """Return the logits."""
        logits: Tensor = self.model(images).logits
        return logits
