"""What a user asked a predictor for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image

from ziggurat.errors import ZigguratError, check_known
from ziggurat.heads.roi_box import MAX_DETECTIONS
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.sliding import SlidingWindows
from ziggurat.inference.tiles import Tiles
from ziggurat.inference.views import View, whole
from ziggurat.ops.nms import HARD, Suppression
from ziggurat.types import Detections


@dataclass(frozen=True)
class Wish:
    """What a user asked for, checked.

    Attributes:
        threshold: Objects below this score are left out.
        labels: Classes whose objects are wanted; None wants all.
        max_detections: Most objects of an image; None is as published, for each view.
        tiles: How images are cut; None shows them whole.
        augmentation: Views of an image, or of each tile.
        suppression: What is done about duplicates; None does as published.
        batch_size: Images, or views, of one forward pass.
    """

    threshold: float
    labels: tuple[int, ...] | None
    max_detections: int | None
    tiles: Tiles | SlidingWindows | None
    augmentation: Augmentation
    suppression: Suppression | None
    batch_size: int

    @property
    def rule(self) -> Suppression:
        """How objects are chosen among the candidates of a view, more than published if wanted."""
        rule = self.suppression or HARD
        if self.max_detections is None or self.max_detections <= MAX_DETECTIONS:
            return rule
        return replace(rule, max_detections=self.max_detections)

    def views(self, image: Image.Image) -> list[list[View]]:
        """Return the views of each tile of an image."""
        size = (image.height, image.width)
        regions = [whole(size)] if self.tiles is None else self.tiles.regions(size)
        return [self.augmentation.views(region) for region in regions]

    def select(self, found: Detections) -> Detections:
        """Keep the objects that are wanted."""
        if self.labels is None:
            return found
        return found.select(torch.isin(found.labels, torch.tensor(self.labels)))

    def best(self, found: Detections) -> Detections:
        """Keep as many objects of an image as are wanted.

        Args:
            found: Objects, best first.
        """
        if self.max_detections is None:
            return found
        return found.select(torch.arange(len(found))[: self.max_detections])


def labels_of(names: Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    """Return the labels of classes that are given by name.

    Args:
        names: Names of the wanted classes.
        classes: Name of each label.

    Raises:
        ZigguratError: If there is no name, or one that the model does not know.
    """
    if isinstance(names, str) or not names:
        raise ZigguratError(
            f"classes must be a list of at least one name, got {names!r}; leave it out to get the "
            "objects of all classes"
        )
    for name in names:
        check_known("class", name, classes)
    return tuple(label for label, name in enumerate(classes) if name in names)
