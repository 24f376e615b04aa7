"""Move an image together with its boxes, masks and keypoints: resize, flip, crop.

Every step moves all of them by the same rule, so that a mask stays on its pixels, a box around its
mask and a point on its place.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8

from ziggurat.ops.object_masks import crop_masks, flip_masks, resize_masks
from ziggurat.types import Detections, ImageSize

Pixels = UInt8[np.ndarray, "H W 3"]
Resize = Callable[[Pixels, ImageSize], Pixels]


@dataclass(frozen=True)
class Scene:
    """An image and its objects.

    Attributes:
        pixels: RGB levels 0..255.
        objects: Its objects, in its pixels.
    """

    pixels: Pixels
    objects: Detections

    @property
    def size(self) -> ImageSize:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]


def resize_scene(scene: Scene, size: ImageSize, resize: Resize) -> Scene:
    """Resize; boxes are cut at the border, masks take the nearest pixel.

    Args:
        scene: Image and objects.
        size: Height and width of the result.
        resize: Resizes the pixels.
    """
    old, objects = scene.size, scene.objects
    factors = torch.tensor([size[1] / old[1], size[0] / old[0]] * 2, dtype=torch.float32)
    limits = torch.tensor([size[1], size[0]] * 2, dtype=torch.float32)
    boxes = (objects.boxes * factors).clamp(min=0).minimum(limits)
    masks = None if objects.masks is None else resize_masks(objects.masks, size)
    points = objects.keypoints
    if points is not None:
        points = points.scale((size[1] / old[1], size[0] / old[0]))
    moved = replace(objects, boxes=boxes, masks=masks, keypoints=points)
    return Scene(resize(scene.pixels, size), moved)


def flip_scene(scene: Scene) -> Scene:
    """Exchange left and right, of keypoints also which is which."""
    objects = scene.objects
    x1, y1, x2, y2 = objects.boxes.unbind(dim=1)
    width = scene.size[1]
    boxes = torch.stack([width - x2, y1, width - x1, y2], dim=1)
    masks = None if objects.masks is None else flip_masks(objects.masks)
    points = None if objects.keypoints is None else objects.keypoints.flip(width)
    moved = replace(objects, boxes=boxes, masks=masks, keypoints=points)
    return Scene(scene.pixels[:, ::-1], moved)


def crop_scene(scene: Scene, left: int, top: int, size: ImageSize) -> Scene:
    """Cut a part out; objects whose box lies outside it are left out, and points outside forgotten.

    Args:
        scene: Image and objects.
        left: Pixels at the left of the part.
        top: Pixels above the part.
        size: Height and width of the part, which lies inside the image.
    """
    objects = scene.objects
    shift = torch.tensor([left, top] * 2, dtype=torch.float32)
    limits = torch.tensor([size[1], size[0]] * 2, dtype=torch.float32)
    boxes = (objects.boxes - shift).clamp(min=0).minimum(limits)
    masks = None if objects.masks is None else crop_masks(objects.masks, left, top, size)
    points = None if objects.keypoints is None else objects.keypoints.move(-left, -top).crop(size)
    cut = replace(objects, boxes=boxes, masks=masks, keypoints=points)
    is_seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Scene(
        scene.pixels[top : top + size[0], left : left + size[1]],
        cut if bool(is_seen.all()) else cut.select(is_seen),
    )
