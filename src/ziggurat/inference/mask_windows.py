"""Masks by windows moved and put together, without one mask of the whole image.

Shapes: N objects, P pixels of all windows.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.types import Detections, ImageSize, ObjectMasks


def move_masks(masks: ObjectMasks, left: int, top: int, size: ImageSize) -> ObjectMasks:
    """Turn masks of a part of an image into masks of the image.

    Args:
        masks: Masks in the part.
        left: Pixels of the image at the left of the part.
        top: Pixels of the image above the part.
        size: Height and width of the image.
    """
    shift = masks.windows.new_tensor([left, top, 0, 0])
    return ObjectMasks(masks.pixels, masks.windows + shift, size)


def join_masks(
    masks: ObjectMasks,
    groups: Sequence[Sequence[int]],
    weights: Float[Tensor, " N"],
    *,
    share: float,
) -> ObjectMasks:
    """Make one mask of each group: the pixels that enough of it covers.

    Args:
        masks: Masks of N objects.
        groups: Numbers of the objects of each group.
        weights: Voice of each object, above 0.
        share: Part of the voices of a group that must cover a pixel; at 0 one object is enough.
    """
    crops = masks.crops()
    windows = masks.windows.tolist()
    voices = weights.tolist()
    joined, places = [masks.pixels[:0]], []
    for group in groups:
        shown = [index for index in group if windows[index][2]]
        if len(group) == 1 or not shown:
            joined.append(crops[group[0]].flatten())
            places.append(windows[group[0]])
            continue
        left = min(windows[index][0] for index in shown)
        top = min(windows[index][1] for index in shown)
        right = max(windows[index][0] + windows[index][2] for index in shown)
        bottom = max(windows[index][1] + windows[index][3] for index in shown)
        votes = torch.zeros(bottom - top, right - left, device=masks.pixels.device)
        for index in shown:
            x, y, width, height = windows[index]
            rows, columns = slice(y - top, y - top + height), slice(x - left, x - left + width)
            votes[rows, columns] += crops[index] * voices[index]
        needed = share * sum(voices[index] for index in group)
        joined.append(((votes >= needed) & (votes > 0)).flatten())
        places.append([left, top, right - left, bottom - top])
    return ObjectMasks(
        torch.cat(joined), masks.windows.new_tensor(places).reshape(-1, 4), masks.size
    )


def concatenate(parts: Sequence[Detections]) -> Detections:
    """Put the objects of several results for one image into one.

    All have masks, or none has; the same holds for keypoints.

    Args:
        parts: At least one result.
    """
    masks = [part.masks for part in parts if part.masks is not None]
    joined = None
    if masks:
        pixels = torch.cat([mask.pixels for mask in masks])
        windows = torch.cat([mask.windows for mask in masks])
        joined = ObjectMasks(pixels, windows, masks[0].size)
    points = [part.keypoints for part in parts if part.keypoints is not None]
    return Detections(
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.scores for part in parts]),
        torch.cat([part.labels for part in parts]),
        joined,
        None if not points else replace(points[0], points=torch.cat([p.points for p in points])),
    )
