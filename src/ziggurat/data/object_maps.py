"""Objects out of a map whose pixels hold the number of their object.

One pass over the pixels finds the run lengths, the box and the area of all objects: no mask of an
image is made, however many objects it has.

Shapes: H x W pixels, R runs of equal numbers down the columns, r those of one number.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, Integer

from ziggurat.ops.run_lengths import compress_counts, count_between
from ziggurat.types import ImageSize


@dataclass(frozen=True)
class Region:
    """Pixels of one number.

    Attributes:
        counts: Their compressed run lengths, as COCO writes them.
        size: Height and width of the map.
        box: x1, y1, x2, y2 along the edges of the outermost pixels.
        area: Number of pixels.
    """

    counts: str
    size: ImageSize
    box: tuple[float, float, float, float]
    area: int

    @property
    def segmentation(self) -> dict[str, object]:
        """The mask as a COCO file has it."""
        return {"size": list(self.size), "counts": self.counts}


def find_regions(
    numbers: Integer[np.ndarray, "H W"] | Bool[np.ndarray, "H W"], *, without: Iterable[int]
) -> dict[int, Region]:
    """Return the pixels of each number that occurs, by rising number.

    Args:
        numbers: Number of each pixel.
        without: Numbers that are left out.
    """
    size = (numbers.shape[0], numbers.shape[1])
    flat = numbers.T.ravel()  # down the columns, as run lengths go
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    stops = np.append(starts[1:], flat.size)
    values = flat[starts]
    (wanted,) = np.nonzero(~np.isin(values, list(without)))
    order = wanted[np.argsort(values[wanted], kind="stable")]
    found, first = np.unique(values[order], return_index=True)
    if not len(found):
        return {}
    of_each = np.split(order, first[1:])
    ends = (np.stack([starts[of], stops[of]], axis=1).ravel() for of in of_each)
    texts = compress_counts([count_between(places, flat.size) for places in ends])
    return {
        int(value): Region(
            text, size, _box(starts[of], stops[of], size[0]), int((stops[of] - starts[of]).sum())
        )
        for value, text, of in zip(found, texts, of_each, strict=True)
    }


def _box(
    starts: Int64[np.ndarray, " r"], stops: Int64[np.ndarray, " r"], height: int
) -> tuple[float, float, float, float]:
    left, right = int(starts[0]) // height, (int(stops[-1]) - 1) // height + 1
    columns, tops = np.divmod(starts, height)
    last_columns, bottoms = np.divmod(stops - 1, height)
    top, bottom = int(tops.min()), int(bottoms.max()) + 1
    if (columns != last_columns).any():  # from the bottom of a column to the top of the next
        top, bottom = 0, height
    return float(left), float(top), float(right), float(bottom)
