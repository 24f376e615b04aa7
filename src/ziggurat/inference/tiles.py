"""Tiled inference: a detector sees a very large image part by part, and one time as a whole.

Tiles overlap, so that an object no larger than the overlap lies whole in at least one of them. What
the tiles find is put together by one rule:

    Two objects of one class in two tiles are the same object if, in what both tiles see, their
    boxes agree (IoU of at least 0.5).

Of the same object, a box that ends at a border between tiles is a piece, and a whole one replaces
it. Where there are pieces only, because the object is larger than the overlap, they are joined,
from tile to tile: the box and the mask around all of them, with the best score and of each keypoint
the surest. The view of the
whole image is a tile like the others, without borders, and knows the objects larger than a tile.

The limits of the rule: an object larger than the overlap that no tile recognises by its part, nor
the model in the small view of the whole, is missed. Pieces of two objects of one class that cover
each other, cut by the same border, may be joined. And nothing limits the number of objects.

Shapes: N objects of all tiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.inference.joined_points import surest_points
from ziggurat.inference.mask_windows import concatenate, join_masks
from ziggurat.inference.views import Region, whole
from ziggurat.types import Detections, ImageSize

AGREEMENT = 0.5
"""IoU of two boxes, in what both tiles see, from which on they are of one object."""
BORDER = 0.02
"""A box this near to a border, in sides of the tile, is cut by it: boxes are not exact."""
MIN_SIZE = 64


@dataclass(frozen=True)
class Tiles:
    """How an image is cut.

    Attributes:
        size: Side of the square tiles, in pixels of the image. A tile as large as the short side
            that the model expects is seen pixel by pixel, a smaller one enlarged; one as large as
            the short side of the image is seen at the scale of the whole image.
        overlap: What neighbours share at least, in pixels; best as large as the objects.
        whole: Whether the whole image is looked at, too.

    Raises:
        ZigguratError: If tiles are too small or overlap is no part of them.
    """

    size: int = 800
    overlap: int = 200
    whole: bool = True

    def __post_init__(self) -> None:
        if self.size < MIN_SIZE:
            raise ZigguratError(
                f"tiles must have at least {MIN_SIZE} pixels a side, got {self.size}"
            )
        if not 0 <= self.overlap < self.size:
            raise ZigguratError(
                f"the overlap of tiles must be at least 0 and less than their size of {self.size} "
                f"pixels, got {self.overlap}"
            )

    def regions(self, image_size: ImageSize) -> list[Region]:
        """Return the tiles of an image, row by row; of an image that fits into one, the image.

        Args:
            image_size: Height and width of the image.
        """
        height, width = image_size
        regions = [
            (left, top, min(self.size, width), min(self.size, height))
            for top in self._starts(height)
            for left in self._starts(width)
        ]
        everything = [whole(image_size)] if self.whole and len(regions) > 1 else []
        return everything + regions

    def _starts(self, side: int) -> list[int]:
        """Where tiles begin along a side: at equal distances, all of full size."""
        if side <= self.size:
            return [0]
        count = -(-(side - self.overlap) // (self.size - self.overlap))
        return [number * (side - self.size) // (count - 1) for number in range(count)]


def merge_tiles(
    regions: Sequence[Region], found: Sequence[Detections], image_size: ImageSize
) -> Detections:
    """Put together what was found in the tiles of an image, best first.

    Args:
        regions: The tiles.
        found: Objects of each tile, in pixels of the image.
        image_size: Height and width of the image.
    """
    if len(regions) == 1:
        return found[0]
    objects = concatenate(found)
    tile_of = torch.cat([torch.full((len(part),), i) for i, part in enumerate(found)])
    tiles = _corners(regions)[tile_of]
    is_cut = _is_cut(objects.boxes, tiles, image_size)
    groups = _group(objects, tiles, tile_of, is_cut)
    leaders = torch.tensor([group[0] for group in groups], dtype=torch.int64)
    merged = objects.select(leaders)
    boxes = merged.boxes.clone()
    for number, group in enumerate(groups):
        if len(group) > 1:
            members = objects.boxes[group]
            boxes[number] = torch.cat([members[:, :2].amin(dim=0), members[:, 2:].amax(dim=0)])
    masks = objects.masks
    if masks is not None:
        masks = join_masks(masks, groups, objects.scores.clamp(min=1e-12), share=0.0)
    keypoints = objects.keypoints
    if keypoints is not None:
        keypoints = surest_points(keypoints, groups)
    merged = replace(merged, boxes=boxes, masks=masks, keypoints=keypoints)
    return merged.select(merged.scores.argsort(descending=True, stable=True))


def _corners(regions: Sequence[Region]) -> Float[Tensor, "T 4"]:
    corners = [(left, top, left + width, top + height) for left, top, width, height in regions]
    return torch.tensor(corners, dtype=torch.float32)


def _is_cut(
    boxes: Float[Tensor, "N 4"], tiles: Float[Tensor, "N 4"], image_size: ImageSize
) -> Bool[Tensor, " N"]:
    """Tell which boxes end at a border of their tile that is none of the image."""
    height, width = image_size
    margin = BORDER * (tiles[:, 2:] - tiles[:, :2])
    starts = (tiles[:, :2] > 0) & (boxes[:, :2] <= tiles[:, :2] + margin)
    ends = (tiles[:, 2:] < tiles.new_tensor([width, height])) & (
        boxes[:, 2:] >= tiles[:, 2:] - margin
    )
    return (starts | ends).any(dim=1)


def _group(
    objects: Detections, tiles: Float[Tensor, "N 4"], tile_of: Tensor, is_cut: Bool[Tensor, " N"]
) -> list[list[int]]:
    """Return the objects to keep, and pieces to join with each, the surest first.

    Row by row: a table of all pairs would be too large where there are 20000 objects.
    """
    free = torch.ones(len(objects), dtype=torch.bool)
    groups = []
    by_score = objects.scores.argsort(descending=True, stable=True)
    for leader in by_score[~is_cut[by_score]].tolist():
        if free[leader]:
            free &= ~_same_object(leader, objects, tiles, tile_of)
            free[leader] = False
            groups.append([leader])
    for leader in by_score[is_cut[by_score]].tolist():
        if not free[leader]:
            continue
        group, position = [leader], 0
        free[leader] = False
        while position < len(group):
            same = _same_object(group[position], objects, tiles, tile_of) & free
            free &= ~same
            group += same.nonzero()[:, 0].tolist()
            position += 1
        groups.append(group)
    return groups


def _same_object(
    index: int, objects: Detections, tiles: Float[Tensor, "N 4"], tile_of: Tensor
) -> Bool[Tensor, " N"]:
    """Tell which objects of other tiles agree with one in what both tiles see."""
    low = torch.maximum(tiles[index, :2], tiles[:, :2])
    high = torch.minimum(tiles[index, 2:], tiles[:, 2:])
    box, boxes = objects.boxes[index], objects.boxes
    mine_low, mine_high = torch.maximum(box[:2], low), torch.minimum(box[2:], high)
    low, high = torch.maximum(boxes[:, :2], low), torch.minimum(boxes[:, 2:], high)
    common = _area(torch.maximum(mine_low, low), torch.minimum(mine_high, high))
    total = _area(mine_low, mine_high) + _area(low, high) - common
    return (
        (objects.labels == objects.labels[index])
        & (tile_of != tile_of[index])
        & (common > 0)
        & (common >= AGREEMENT * total)
    )


def _area(low: Float[Tensor, "N 2"], high: Float[Tensor, "N 2"]) -> Float[Tensor, " N"]:
    return (high - low).clamp(min=0).prod(dim=1)
