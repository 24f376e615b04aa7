"""Copy-paste: objects of one image stuck onto another (Ghiasi et al., arXiv:2012.07177).

A random part of the other image's objects is taken, both images being resized and cut by chance
before. What they cover is cut out of the objects that were there; those that are covered whole
are dropped, and the boxes of the others shrink to what is left. Edges are not blended, which the
paper found to make no difference.

Shapes: N objects, H x W and h x w the two images.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ziggurat.ops.object_masks import crop_masks, from_crops
from ziggurat.types import Detections, ImageSize, ObjectMasks


def paste_objects(
    image: Float[Tensor, "3 H W"],
    objects: Detections,
    other: Float[Tensor, "3 h w"],
    others: Detections,
) -> tuple[Float[Tensor, "3 H W"], Detections]:
    """Stick some objects of another image onto this one; draws from torch's global generator.

    Both images lie with their upper left corners on each other.

    Args:
        image: Normalised image.
        objects: Its objects with masks.
        other: Image from which objects are taken, normalised likewise.
        others: Its objects with masks.

    Raises:
        ValueError: If objects have no masks.
    """
    if objects.masks is None or others.masks is None:
        raise ValueError("copy-paste needs objects with masks")
    count = int(torch.randint(len(others) + 1, ()))
    chosen = others.select(torch.randperm(len(others))[:count])
    size = (image.shape[1], image.shape[2])
    pasted = _move(chosen, size, (other.shape[1], other.shape[2]))
    if not len(pasted) or pasted.masks is None:
        return image, objects
    covered = _union(pasted.masks)
    rows, columns = min(size[0], other.shape[1]), min(size[1], other.shape[2])
    where = covered[:rows, :columns]
    image = image.clone(memory_format=torch.preserve_format)
    image[:, :rows, :columns] = torch.where(
        where, other[:, :rows, :columns], image[:, :rows, :columns]
    )
    left = _uncover(objects, objects.masks, covered.numpy())
    assert left.masks is not None
    return image, Detections(
        torch.cat([left.boxes, pasted.boxes]),
        torch.cat([left.scores, pasted.scores]),
        torch.cat([left.labels, pasted.labels]),
        ObjectMasks(
            torch.cat([left.masks.pixels, pasted.masks.pixels]),
            torch.cat([left.masks.windows, pasted.masks.windows]),
            size,
        ),
    )


def _move(chosen: Detections, size: ImageSize, old: ImageSize) -> Detections:
    """Cut objects at the border of their new image; drop those of which nothing is seen."""
    assert chosen.masks is not None
    shared = (min(size[0], old[0]), min(size[1], old[1]))
    masks = crop_masks(chosen.masks, 0, 0, shared)
    limits = torch.tensor([shared[1], shared[0]] * 2, dtype=torch.float32)
    boxes = chosen.boxes.minimum(limits)
    masks = ObjectMasks(masks.pixels, masks.windows, size)
    is_seen = torch.tensor([bool(crop.any()) for crop in masks.crops()], dtype=torch.bool)
    is_seen &= (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return Detections(boxes, chosen.scores, chosen.labels, masks).select(is_seen)


def _union(masks: ObjectMasks) -> Bool[Tensor, "H W"]:
    covered = torch.zeros(masks.size, dtype=torch.bool)
    for crop, (left, top, width, height) in zip(masks.crops(), masks.windows.tolist(), strict=True):
        covered[top : top + height, left : left + width] |= crop
    return covered


def _uncover(
    objects: Detections, masks: ObjectMasks, covered: Bool[np.ndarray, "H W"]
) -> Detections:
    """Take covered pixels away from objects."""
    crops, keep = [], []
    boxes = objects.boxes.clone()
    for index, (crop, (left, top, width, height)) in enumerate(
        zip(masks.crops(), masks.windows.tolist(), strict=True)
    ):
        old = crop.numpy()
        rest = old & ~covered[top : top + height, left : left + width]
        crops.append(rest)
        rows, columns = np.flatnonzero(rest.any(axis=1)), np.flatnonzero(rest.any(axis=0))
        keep.append(len(rows) > 0)
        if keep[-1] and (rest != old).any():
            corners = (columns[0] + left, rows[0] + top, columns[-1] + left, rows[-1] + top)
            seen = torch.tensor([float(corner) for corner in corners])
            seen[2:] += 1
            # The box as annotated, where it is cut by nothing.
            boxes[index, :2] = boxes[index, :2].maximum(seen[:2])
            boxes[index, 2:] = boxes[index, 2:].minimum(seen[2:])
            if (boxes[index, 2:] <= boxes[index, :2]).any():  # a mask may reach beyond its box
                boxes[index] = seen
    rest_masks = from_crops(crops, masks.windows.numpy(), masks.size)
    return Detections(boxes, objects.scores, objects.labels, rest_masks).select(
        torch.tensor(keep, dtype=torch.bool)
    )
