"""Ziggurat: pyramid vision transformers for PyTorch.

What is imported here is public; the rest may change.
"""

from ziggurat.checkpoints.matching import LoadReport
from ziggurat.checkpoints.official import load_official
from ziggurat.errors import ZigguratError
from ziggurat.zoo import create_backbone, create_model, list_models

__version__ = "0.1.0"

__all__ = [
    "LoadReport",
    "ZigguratError",
    "create_backbone",
    "create_model",
    "list_models",
    "load_official",
]
