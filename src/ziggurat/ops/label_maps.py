"""From coarse logits to the class of every pixel, without enlarging what cannot win.

The plain way resizes a map for every class and compares them all at every pixel, which costs more
than many a network. Most squares of pixels get their class without any of that, the others by small
products, see `label_squares`; where two classes come so near that rounding decides, the plain way
is asked, for those classes. The result is the same, pixel by pixel.

Shapes: K classes, h x w cells of the head, H x W pixels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ziggurat.ops.label_squares import find_labels, windows_of
from ziggurat.types import ImageSize, LabelMap

LARGEST_WINDOW = 256
"""Cells that a square may be made of; of more, as in a small result, the plain way is as good."""
_ROUNDING = 4e-6
"""Differences, as a share of the largest logit, that rounding may cause or hide."""
_BLOCK_VALUES = 4_000_000
"""Resized values that are held at once: few enough for the processor's cache to help."""


def label_map(
    logits: Float[Tensor, "K h w"],
    padded_size: ImageSize,
    image_size: ImageSize,
    original_size: ImageSize,
) -> LabelMap:
    """Resize logits to the input, cut the padding off, resize to the original, take the best class.

    Two resizes, as in the published evaluations; one would give other values.

    Args:
        logits: Class logits of one image at the resolution of the head.
        padded_size: Height and width of the network's input.
        image_size: The part of it that is image.
        original_size: Height and width of the result.
    """
    logits = logits.float().contiguous()
    resizing = _Resizing(padded_size, image_size, original_size)
    classes = torch.arange(len(logits), device=logits.device)
    rows, columns = (
        windows_of(resizing.shares(axis, logits.shape[1 + axis], logits.device)) for axis in (0, 1)
    )
    largest = float(logits.abs().amax())
    if not rows.num_cells * columns.num_cells <= LARGEST_WINDOW or not largest < float("inf"):
        return LabelMap(_plain_labels(logits, classes, resizing))
    found = find_labels(
        logits, rows, columns, tolerance=largest * _ROUNDING, values_at_a_time=_BLOCK_VALUES
    )
    if found is None:
        return LabelMap(_plain_labels(logits, classes, resizing))
    labels = found.labels[: original_size[0], : original_size[1]]
    unclear = found.unclear[: original_size[0], : original_size[1]]
    if unclear.any():
        exact = _plain_labels(logits, classes[found.rivals], resizing)
        labels = torch.where(unclear, exact, labels)
    return LabelMap(labels.contiguous())


@dataclass(frozen=True)
class _Resizing:
    """From the head to the input, and from the image in it to the original."""

    padded_size: ImageSize
    image_size: ImageSize
    original_size: ImageSize

    def __call__(self, x: Float[Tensor, "K h w"]) -> Float[Tensor, "K H W"]:
        valid = _resize(x, self.padded_size)[:, : self.image_size[0], : self.image_size[1]]
        return _resize(valid, self.original_size)

    def shares(self, axis: int, cells: int, device: torch.device) -> Float[Tensor, "pixels cells"]:
        """Return how much each pixel along an axis gets of each cell."""
        x = torch.eye(cells, device=device)[None]
        x = _resize(x, (self.padded_size[axis], cells))[:, : self.image_size[axis]]
        return _resize(x, (self.original_size[axis], cells))[0]


def _plain_labels(
    logits: Float[Tensor, "K h w"], classes: Int[Tensor, " S"], resizing: _Resizing
) -> Int[Tensor, "H W"]:
    """Resize the maps of some classes, a few at a time, and return the best of these."""
    pixels = max(
        resizing.padded_size[0] * resizing.padded_size[1],
        resizing.original_size[0] * resizing.original_size[1],
    )
    best = labels = None
    for block in classes.split(max(1, _BLOCK_VALUES // pixels)):
        for values, label in zip(resizing(logits[block]), block.tolist(), strict=True):
            if best is None or labels is None:
                best, labels = values, torch.full_like(values, label, dtype=torch.int16)
                continue
            # Strictly better: of equal classes the first wins.
            labels.masked_fill_(values > best, label)
            best = torch.maximum(best, values)
    assert labels is not None  # there is a class
    return labels


def _resize(x: Float[Tensor, "K h w"], size: ImageSize) -> Float[Tensor, "K H W"]:
    if tuple(x.shape[1:]) == tuple(size):
        return x
    return F.interpolate(x[None], size=size, mode="bilinear", align_corners=False)[0]
