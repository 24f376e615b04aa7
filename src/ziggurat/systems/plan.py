"""What a system is told beside the maps that it builds on."""

from dataclasses import dataclass
from typing import Literal

Edition = Literal["2.13", "2.14", "2.25"]
"""MMDetection 2.13 stands behind PVT's detectors, 2.14 behind P2T's, 2.25 behind GPViT's."""


@dataclass(frozen=True)
class Plan:
    """The choices of a model; a system reads those that it leaves open.

    Attributes:
        backbone: Name of the backbone, whose published variants have rules of their own.
        num_classes: Number of foreground classes.
        channels: Width of neck and head.
        depth: Convolutions of each tower of a dense head, as published 4; 0 for the others.
        neck: Name of the neck; None where the head reads the maps as they are.
        key_budget: Most keys that a pixel of a Feature Pyramid Transformer reads in a softmax;
            None for all.
        self_levels: How many of the coarsest maps look at themselves there; None for all.
        grounding_window: Side of the square that its grounding reads; None as published.
        drop_block: Share of what its transformers found that training sets to 0.
        drop_path_rate: Stochastic depth of the last block of what a system adds in the manner of a
            backbone.
        num_keypoints: Points of each object; None where a system finds none.
    """

    backbone: str
    num_classes: int
    channels: int
    depth: int = 0
    neck: str | None = None
    key_budget: int | None = None
    self_levels: int | None = None
    grounding_window: int | None = None
    drop_block: float = 0.0
    drop_path_rate: float = 0.0
    num_keypoints: int | None = None

    @property
    def edition(self) -> Edition:
        """Whose rules a detector follows: those that its backbone was published with."""
        editions: dict[str, Edition] = {"gpvit": "2.25", "p2t": "2.14"}
        return editions.get(self.backbone.split("_")[0], "2.13")
