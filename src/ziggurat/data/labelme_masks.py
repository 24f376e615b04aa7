"""Masks in LabelMe's files: a small picture, as base64, between the two points of a shape."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from PIL import Image

from ziggurat.data.decode import ImageDecodeError, decode_with
from ziggurat.data.object_maps import Region
from ziggurat.data.segments import SegmentTable, read_segment
from ziggurat.ops.run_lengths import compress_counts, count_runs
from ziggurat.types import ImageSize


@dataclass(frozen=True)
class MaskPart:
    """Pixels of an object in a window of the image.

    Attributes:
        pixels: Whether each pixel of the window is of the object.
        left: First column of the window.
        top: First row of the window.
    """

    pixels: Bool[np.ndarray, "h w"]
    left: int
    top: int


def read_mask(shape: Mapping[str, object], size: ImageSize) -> MaskPart:
    """Read a shape of the type "mask".

    Args:
        shape: The shape; its points are finite numbers.
        size: Height and width of the image.

    Raises:
        ValueError: If it is no mask of some pixels in the image; says why.
    """
    points, text = shape["points"], shape.get("mask")
    assert isinstance(points, list)
    if len(points) != 2:
        raise ValueError(f"a mask of {len(points)} points; expected two")
    if not isinstance(text, str) or not text:
        raise ValueError("it has no 'mask'; expected a PNG file as base64")
    # LabelMe itself drops what is behind the point.
    (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points)
    height, width = size
    if not (0 <= left <= right <= width and 0 <= top <= bottom <= height):
        raise ValueError(
            f"its points {points} span no part of the image, {width} wide and {height} high"
        )

    def take(image: Image.Image) -> Bool[np.ndarray, "h w"]:
        # The last pixel is the one at the second point, or the one before it, by version.
        far_x, far_y = right - left - image.width, bottom - top - image.height
        if far_x not in (-1, 0) or far_y not in (-1, 0):
            raise ValueError(
                f"it has {image.width} x {image.height} pixels, and its points span "
                f"{right - left + 1} x {bottom - top + 1}"
            )
        values = np.asarray(image)
        if values.ndim != 2:
            raise ValueError(f"it is a picture in the mode {image.mode}; expected one channel")
        return values != 0

    try:
        pixels = decode_with(base64.b64decode(text, validate=True), take)
    except ImageDecodeError as error:
        raise ValueError(f"its mask cannot be read: {error.reason}") from error
    except ValueError as error:
        raise ValueError(f"its mask is no base64: {error}") from error
    inside = pixels[: height - top, : width - left]
    if not pixels.any():
        raise ValueError("its mask has no pixel")
    if inside.sum() < pixels.sum():
        raise ValueError("its mask leaves the image")
    return MaskPart(inside, left, top)


def join_parts(
    masks: Sequence[MaskPart], polygons: Sequence[Sequence[float]], size: ImageSize
) -> Region:
    """Make one region of the parts of an object; `ValueError` says why a polygon cannot be filled.

    Args:
        masks: Parts that are masks, at least one.
        polygons: Parts that are outlines, as flat x, y lists.
        size: Height and width of the image.
    """
    parts = [*masks, *([_fill(polygons, size)] if polygons else [])]
    left, top = min(part.left for part in parts), min(part.top for part in parts)
    right = max(part.left + part.pixels.shape[1] for part in parts)
    bottom = max(part.top + part.pixels.shape[0] for part in parts)
    union = np.zeros((bottom - top, right - left), dtype=bool)
    for part in parts:
        y, x = part.top - top, part.left - left
        union[y : y + part.pixels.shape[0], x : x + part.pixels.shape[1]] |= part.pixels
    (counts,) = compress_counts([count_runs(union, left, top, size)])
    rows, columns = (np.flatnonzero(union.any(axis=axis)) for axis in (1, 0))
    box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
    x1, y1, x2, y2 = (float(side) for side in box)
    return Region(counts, size, (x1, y1, x2, y2), int(union.sum()))


def _fill(polygons: Sequence[Sequence[float]], size: ImageSize) -> MaskPart:
    segment = read_segment([list(polygon) for polygon in polygons], size)
    masks = SegmentTable.of([segment]).masks(0, 1, size)
    left, top, _, _ = masks.windows[0].tolist()
    return MaskPart(masks.crops()[0].numpy(), left, top)
