"""Names to models: the only place where a string becomes an object.

Published models are listed in `cards`; `create_model` also builds any combination that no one has
published.
"""

from ziggurat.zoo.backbones import (
    BACKBONES,
    TIMM_PREFIX,
    TRUNKS,
    Backbone,
    create_backbone,
    create_classifier_parts,
    create_linear_head,
    pixels_of,
)
from ziggurat.zoo.models import NUM_CLASSES, Model, build, create_model, list_models, task_of

__all__ = [
    "BACKBONES",
    "NUM_CLASSES",
    "TIMM_PREFIX",
    "TRUNKS",
    "Backbone",
    "Model",
    "build",
    "create_backbone",
    "create_classifier_parts",
    "create_linear_head",
    "create_model",
    "list_models",
    "pixels_of",
    "task_of",
]
