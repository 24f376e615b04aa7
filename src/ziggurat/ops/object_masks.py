"""Masks of objects through flips, resizing and crops, without one mask of the whole image.

A mask is stored for a window around its object (`types.ObjectMasks`), and so is what becomes of
it: the work is that of the windows, not of objects times image. Where NumPy does it, the masks lie
on the CPU.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int64

from ziggurat.ops.nearest import nearest_positions
from ziggurat.types import ImageSize, ObjectMasks


def from_crops(
    crops: Sequence[Bool[np.ndarray, "_ _"]],
    windows: Int64[np.ndarray, "N 4"],
    size: ImageSize,
) -> ObjectMasks:
    """Put masks of windows together.

    Args:
        crops: Content of each window.
        windows: left, top, width, height of each, in pixels, inside the image.
        size: Height and width of the image.
    """
    flat = [crop.ravel() for crop in crops]
    pixels = np.concatenate([np.zeros(0, dtype=bool), *flat])
    return ObjectMasks(torch.from_numpy(pixels), torch.from_numpy(windows.reshape(-1, 4)), size)


def flip_masks(masks: ObjectMasks) -> ObjectMasks:
    """Exchange left and right, on any device."""
    windows = masks.windows.clone()
    windows[:, 0] = masks.size[1] - windows[:, 0] - windows[:, 2]
    flipped = [crop.flip(1).flatten() for crop in masks.crops()]
    return ObjectMasks(torch.cat([masks.pixels[:0], *flipped]), windows, masks.size)


def resize_masks(masks: ObjectMasks, size: ImageSize) -> ObjectMasks:
    """Resize as OpenCV's INTER_NEAREST does: a pixel takes the one at its upper left corner.

    A mask thinner than the pixels that are skipped may vanish; its window is empty then.

    Args:
        masks: Masks of N objects.
        size: Height and width of the image after resizing.
    """
    if size == masks.size:
        return masks
    rows, columns = (nearest_positions(old, new) for old, new in zip(masks.size, size, strict=True))
    old = masks.windows.numpy()
    left, top = np.searchsorted(columns, old[:, 0]), np.searchsorted(rows, old[:, 1])
    right = np.searchsorted(columns, old[:, 0] + old[:, 2])
    bottom = np.searchsorted(rows, old[:, 1] + old[:, 3])
    crops = [
        crop[rows[y1:y2] - y][:, columns[x1:x2] - x]
        for crop, x, y, x1, y1, x2, y2 in zip(
            _crops(masks),
            *old[:, :2].T.tolist(),
            *(side.tolist() for side in (left, top, right, bottom)),
            strict=True,
        )
    ]
    windows = np.stack([left, top, right - left, bottom - top], axis=1).astype(np.int64)
    return from_crops(crops, windows, size)


def crop_masks(masks: ObjectMasks, left: int, top: int, size: ImageSize) -> ObjectMasks:
    """Cut a part out of the image.

    Args:
        masks: Masks of N objects.
        left: Pixels of the image at the left of the part.
        top: Pixels of the image above the part.
        size: Height and width of the part, which lies inside the image.
    """
    old = masks.windows.numpy()
    x1, y1 = old[:, 0].clip(left, left + size[1]), old[:, 1].clip(top, top + size[0])
    x2 = (old[:, 0] + old[:, 2]).clip(left, left + size[1])
    y2 = (old[:, 1] + old[:, 3]).clip(top, top + size[0])
    inside = np.stack([x1 - old[:, 0], y1 - old[:, 1], x2 - old[:, 0], y2 - old[:, 1]], axis=1)
    crops = [
        crop[start_y:stop_y, start_x:stop_x]
        for crop, (start_x, start_y, stop_x, stop_y) in zip(
            _crops(masks), inside.tolist(), strict=True
        )
    ]
    windows = np.stack([x1 - left, y1 - top, x2 - x1, y2 - y1], axis=1)
    return from_crops(crops, windows, size)


def _crops(masks: ObjectMasks) -> list[Bool[np.ndarray, "_ _"]]:
    pixels = masks.pixels.numpy()
    sides = masks.windows[:, 2:].numpy()
    areas = sides.prod(axis=1)
    stops = np.cumsum(areas)
    return [
        pixels[start:stop].reshape(height, width)
        for start, stop, (width, height) in zip(
            (stops - areas).tolist(), stops.tolist(), sides.tolist(), strict=True
        )
    ]
