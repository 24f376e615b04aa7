"""From coarse logits to the class of every pixel, without enlarging what cannot win.

The plain way resizes a map for every class and compares them all at every pixel, which costs more
than many a network. Bilinear values lie between those of the cells around, hence a class that is
nowhere near the best of them cannot win and is left out before anything is resized. The result is
the same, pixel by pixel.

Shapes: K classes, h x w cells of the head, H x W pixels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ziggurat.types import ImageSize, LabelMap

_MARGIN = 1e-3
"""Logits that bounds must differ by: more than the rounding of any interpolation."""
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
        logits: Class logits of one image at the resolution of the head, which is at most that of
            the input.
        padded_size: Height and width of the network's input.
        image_size: The part of it that is image.
        original_size: Height and width of the result.
    """
    logits = logits.float().contiguous()
    is_resized_twice = tuple(image_size) != tuple(original_size)
    classes = possible_classes(logits, reach=2 if is_resized_twice else 1)
    pixels = max(padded_size[0] * padded_size[1], original_size[0] * original_size[1])
    best = labels = None
    for block in classes.split(max(1, _BLOCK_VALUES // pixels)):
        maps = _resize(logits[block], padded_size)[:, : image_size[0], : image_size[1]]
        maps = _resize(maps, original_size)
        for values, label in zip(maps, block.tolist(), strict=True):
            if best is None or labels is None:
                best, labels = values, torch.full_like(values, label, dtype=torch.int16)
                continue
            # Strictly better: of equal classes the first wins.
            labels.masked_fill_(values > best, label)
            best = torch.maximum(best, values)
    assert labels is not None  # the best class of any cell is always possible
    return LabelMap(labels)


def possible_classes(logits: Float[Tensor, "K h w"], *, reach: int) -> Int[Tensor, " S"]:
    """Return the classes that can be the best one at some pixel, in rising order.

    Args:
        logits: Class logits of one image.
        reach: Cells around a cell that pixels in it depend on.
    """
    highest = _extreme_around(logits, reach, torch.maximum)
    sure = _extreme_around(logits, reach, torch.minimum).amax(dim=0)
    return (highest >= sure - _MARGIN).flatten(1).any(dim=1).nonzero().flatten()


def _extreme_around(
    x: Float[Tensor, "K h w"], reach: int, extreme: Callable[[Tensor, Tensor], Tensor]
) -> Float[Tensor, "K h w"]:
    """Return the largest or smallest value within `reach` cells, along both sides in turn."""
    for dim in (1, 2):
        found = x.clone()
        for shift in range(1, min(reach, x.shape[dim] - 1) + 1):
            rest = x.shape[dim] - shift
            for start, other in ((0, shift), (shift, 0)):
                part = found.narrow(dim, start, rest)
                part.copy_(extreme(part, x.narrow(dim, other, rest)))
        x = found
    return x


def _resize(x: Float[Tensor, "K h w"], size: ImageSize) -> Float[Tensor, "K H W"]:
    if tuple(x.shape[1:]) == tuple(size):
        return x
    return F.interpolate(x[None], size=size, mode="bilinear", align_corners=False)[0]
