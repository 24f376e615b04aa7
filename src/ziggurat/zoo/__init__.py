"""Names to models: the only place where a string becomes an object.

Published models are listed in `cards`; `create_model` also builds any combination that no one has
published, by the name that `names` takes apart.
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
    weights_of,
)
from ziggurat.zoo.models import NUM_CLASSES, Model, build, create_model, list_models, task_of
from ziggurat.zoo.names import combination_of, refuse_unknown

__all__ = [
    "BACKBONES",
    "NUM_CLASSES",
    "TIMM_PREFIX",
    "TRUNKS",
    "Backbone",
    "Model",
    "build",
    "combination_of",
    "create_backbone",
    "create_classifier_parts",
    "create_linear_head",
    "create_model",
    "list_models",
    "pixels_of",
    "refuse_unknown",
    "task_of",
    "weights_of",
]
