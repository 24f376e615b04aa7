"""Adaptive average pooling as matrix products."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.types import ImageSize


def pyramid_average_pool(
    x: Float[Tensor, "B C H W"], sizes: Sequence[ImageSize]
) -> list[Float[Tensor, "B C _ _"]]:
    """Average-pool a map to several sizes at once.

    Equal to `adaptive_avg_pool2d` for each size (up to the order of additions), but written as a
    product over rows and one over columns, since a bin's average is separable: on channels_last
    maps this is 1.5 to 2 times faster than the pooling kernels, and it exports as two products.

    Args:
        x: Map in channels_last memory.
        sizes: (height, width) of each result.

    Returns:
        One channels_last map for each size.
    """
    height, width = x.shape[2:]
    heights = tuple(h for h, _ in sizes)
    # (sum of heights, H) @ (B, H, W * C): the rows of all levels in one product.
    by_rows = _averages(height, heights, x) @ x.permute(0, 2, 3, 1).flatten(2)
    pooled = []
    for part, (h, w) in zip(by_rows.split(heights, dim=1), sizes, strict=True):
        rows = part.unflatten(2, (width, -1))
        if torch.compiler.is_exporting():
            # Of one image the next line makes a view and of several a copy, so that a program made
            # with two images would refuse one.
            rows = rows.clone(memory_format=torch.contiguous_format)
        level = _averages(width, (w,), x) @ rows.flatten(0, 1)
        pooled.append(level.unflatten(0, (-1, h)).permute(0, 3, 1, 2))
    return pooled


def round_half_even(size: int, ratio: int) -> int:
    """Return `round(size / ratio)` as Python rounds, in integers: 5 / 2 gives 2, 7 / 2 gives 4.

    Sizes that are symbols of a traced graph stay symbols, which `round` would not allow.

    Args:
        size: Cells of one side.
        ratio: Divisor.
    """
    # The last term is 1 where the quotient is odd: only then does a tie go up, to the even one.
    return (2 * size + ratio - 1 + size // ratio % 2) // (2 * ratio)


_CACHE: dict[tuple[object, ...], Tensor] = {}


def _averages(
    size: int, bins_per_level: tuple[int, ...], like: Tensor
) -> Float[Tensor, "bins size"]:
    """Weights that average `size` cells into bins, with the bin borders that PyTorch uses."""
    # Not while a graph is traced: it runs on stand-ins, and a compiled one keeps constants itself.
    if type(like) is not Tensor or torch.compiler.is_compiling():
        return _make_averages(size, bins_per_level, like)
    key = (size, bins_per_level, like.device, like.dtype)
    if key not in _CACHE:
        if len(_CACHE) > 512:  # a stream of images of many sizes must not fill the memory
            _CACHE.clear()
        # A tensor made in inference mode could not be used in training later.
        with torch.inference_mode(False):
            _CACHE[key] = _make_averages(size, bins_per_level, like)
    return _CACHE[key]


def _make_averages(
    size: int, bins_per_level: tuple[int, ...], like: Tensor
) -> Float[Tensor, "bins size"]:
    cell = torch.arange(size, device=like.device)
    levels = []
    for bins in bins_per_level:
        index = torch.arange(bins, device=like.device)[:, None]
        start = index * size // bins
        end = ((index + 1) * size + bins - 1) // bins
        levels.append(((cell >= start) & (cell < end)).to(like.dtype) / (end - start))
    return torch.cat(levels)
