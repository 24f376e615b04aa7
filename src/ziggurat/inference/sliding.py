"""Sliding windows: a segmenter sees a resized photo part by part, at the size it was trained on.

This is `mode='slide'` of MMSegmentation: the photo is resized as for a whole look, windows of one
size are cut out of that, and where they overlap their logits are averaged. Tiles (`tiles.py`) are
cut out of the photo before it is resized.

Shapes: K classes, H x W pixels of the resized photo, h x w of a window.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.inference.views import Region
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.types import ImageSize

MIN_SIZE = 64


@dataclass(frozen=True)
class SlidingWindows:
    """Which parts of a resized photo a segmenter sees.

    Attributes:
        size: Side of the square windows, in pixels of the resized photo; best that of the crops in
            training.
        overlap: What a window shares with the one before, in pixels; the last one of a row or
            column shares more, as it is moved back to end with the photo.

    Raises:
        ZigguratError: If windows are too small or overlap is no part of them.
    """

    size: int = 512
    overlap: int = 171

    def __post_init__(self) -> None:
        if self.size < MIN_SIZE:
            raise ZigguratError(
                f"windows must have at least {MIN_SIZE} pixels a side, got {self.size}"
            )
        if not 0 <= self.overlap < self.size:
            raise ZigguratError(
                f"the overlap of windows must be at least 0 and less than their size of "
                f"{self.size} pixels, got {self.overlap}"
            )

    def regions(self, image_size: ImageSize) -> list[Region]:
        """Return the windows of a resized photo, row by row, all of one size.

        Args:
            image_size: Height and width of the resized photo.
        """
        height, width = image_size
        return [
            (left, top, min(self.size, width), min(self.size, height))
            for top in self._starts(height)
            for left in self._starts(width)
        ]

    def _starts(self, side: int) -> list[int]:
        last = max(side - self.size, 0)
        return [*range(0, last, self.size - self.overlap), last]


def slide(
    model: SemanticSegmenter,
    pixels: Float[Tensor, "3 H W"],
    windows: SlidingWindows,
    *,
    batch_size: int,
    device: torch.device,
) -> Float[Tensor, "K H W"]:
    """Return the logits of every pixel, the mean of the windows that it lies in.

    Args:
        model: A segmenter in eval mode on the device.
        pixels: A photo, resized and normalised as the model expects.
        windows: Which parts of it the model sees.
        batch_size: Windows of one forward pass.
        device: Where to compute.
    """
    height, width = pixels.shape[1:]
    total = torch.zeros(len(model.classes), height, width, device=device)
    count = torch.zeros(height, width, device=device)
    regions = windows.regions((height, width))
    for start in range(0, len(regions), batch_size):
        some = regions[start : start + batch_size]
        shown = torch.stack([pixels[:, y : y + h, x : x + w] for x, y, w, h in some])
        raw = model(shown.to(device, memory_format=torch.channels_last))
        assert isinstance(raw, Tensor)
        enlarged = F.interpolate(raw.float(), size=shown.shape[2:], mode="bilinear")
        for (x, y, w, h), logits in zip(some, enlarged, strict=True):
            total[:, y : y + h, x : x + w] += logits
            count[y : y + h, x : x + w] += 1
    return total.div_(count)
