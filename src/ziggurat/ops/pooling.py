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
        level = _averages(width, (w,), x) @ part.unflatten(2, (width, -1)).flatten(0, 1)
        pooled.append(level.unflatten(0, (-1, h)).permute(0, 3, 1, 2))
    return pooled


_CACHE: dict[tuple[object, ...], Tensor] = {}


def _averages(
    size: int, bins_per_level: tuple[int, ...], like: Tensor
) -> Float[Tensor, "bins size"]:
    """Weights that average `size` cells into bins, with the bin borders that PyTorch uses."""
    key = (size, bins_per_level, like.device, like.dtype)
    # Not while a graph is traced: it runs on stand-ins, and a compiled one keeps constants itself.
    use_cache = type(like) is Tensor and not torch.compiler.is_compiling()
    if use_cache and key in _CACHE:
        return _CACHE[key]
    rows = []
    for bins in bins_per_level:
        for i in range(bins):
            start, end = i * size // bins, -(-(i + 1) * size // bins)
            rows.append([1 / (end - start) if start <= j < end else 0.0 for j in range(size)])
    # A tensor made in inference mode could not be used in training later.
    with torch.inference_mode(False):
        weights = torch.tensor(rows, dtype=like.dtype, device=like.device)
    if use_cache:
        if len(_CACHE) > 512:  # a stream of images of many sizes must not fill the memory
            _CACHE.clear()
        _CACHE[key] = weights
    return weights
