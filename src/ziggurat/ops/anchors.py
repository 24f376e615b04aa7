"""Anchors: the boxes that a dense detector starts from, a few in every cell of every level."""

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ziggurat.types import ImageSize

SIZE_DIVISOR = 32
"""Published detectors pad each image to multiples of this, in pixels."""


@dataclass(frozen=True)
class AnchorGrid:
    """Shapes of the anchors of a detector.

    Anchors are centred on (x * stride, y * stride): no half-cell offset and no rounding, unlike
    torchvision's, unless `is_rounded`. In a cell, scales vary faster than ratios.

    Attributes:
        scales: Side of the square anchor in strides of its level.
        ratios: Height divided by width, at constant area.
        is_rounded: Whether anchors are those of Detectron: centred on the middle of their cell, and
            multiples of an anchor of the cell's area whose sides are whole pixels.
    """

    scales: tuple[float, ...]
    ratios: tuple[float, ...]
    is_rounded: bool = False

    @property
    def num_anchors(self) -> int:
        """Anchors in a cell."""
        return len(self.scales) * len(self.ratios)

    def cell(self, stride: int) -> Float[Tensor, "A 4"]:
        """Return the anchors of the cell at the origin, in pixels."""
        anchors = []
        for ratio in self.ratios:
            for scale in self.scales:
                height = stride * scale * sqrt(ratio)
                width = stride * scale / sqrt(ratio)
                if self.is_rounded:
                    side = round(stride / sqrt(ratio))
                    width, height = scale * side, scale * round(side * ratio)
                anchors.append([-width / 2, -height / 2, width / 2, height / 2])
        return torch.tensor(anchors) + (stride / 2 if self.is_rounded else 0)

    def level(
        self, map_size: ImageSize, stride: int, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "N 4"]:
        """Return the anchors of a level, row by row, cell by cell."""
        height, width = map_size
        y = torch.arange(height, device=device, dtype=torch.float32) * stride
        x = torch.arange(width, device=device, dtype=torch.float32) * stride
        shift_y, shift_x = torch.meshgrid(y, x, indexing="ij")
        shifts = torch.stack([shift_x, shift_y, shift_x, shift_y], dim=-1).view(-1, 1, 4)
        return (shifts + self.cell(stride).to(device)).view(-1, 4)

    def valid(
        self,
        map_size: ImageSize,
        stride: int,
        image_size: ImageSize,
        device: torch.device | str = "cpu",
    ) -> Bool[Tensor, " N"]:
        """Mark the anchors of cells that begin inside the image.

        Args:
            map_size: Height and width of the level.
            stride: Stride of the level.
            image_size: Height and width of the part that counts.
            device: Where the result lies.
        """
        height, width = map_size
        rows = torch.arange(height, device=device) < -(-image_size[0] // stride)
        columns = torch.arange(width, device=device) < -(-image_size[1] // stride)
        cells = (rows[:, None] & columns[None, :]).reshape(-1, 1)
        return cells.expand(-1, self.num_anchors).reshape(-1)
