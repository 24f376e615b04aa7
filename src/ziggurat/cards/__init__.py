"""What is published about each model: task, parts, size, accuracy, source and recipes."""

from ziggurat.cards.card import ModelCard
from ziggurat.cards.classifiers import CLASSIFIERS
from ziggurat.cards.detectors import DETECTORS
from ziggurat.cards.fpt import WITH_FPT
from ziggurat.cards.keypoints import KEYPOINT_DETECTORS
from ziggurat.cards.segmenters import SEGMENTERS

__all__ = ["MODELS", "ModelCard"]

MODELS: dict[str, ModelCard] = {
    card.name: card
    for card in (*CLASSIFIERS, *DETECTORS, *KEYPOINT_DETECTORS, *SEGMENTERS, *WITH_FPT)
}
"""Cards by the name of their model."""
