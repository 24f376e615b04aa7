"""Zeros behind the end of a tensor, so that it can be cut into equal parts, and off again."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from ziggurat.ops.traced_sizes import is_known_true
from ziggurat.types import ImageSize


def divide_up(size: int, divisor: int) -> int:
    """Divide and round up, written so that traced sizes simplify, unlike `-(-size // divisor)`."""
    return (size + divisor - 1) // divisor


def aligned_size(size: ImageSize, divisor: int) -> ImageSize:
    """Round a (height, width) up to multiples of `divisor`."""
    return -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor


def pad_to_multiple(
    x: Shaped[Tensor, "..."], dims: Sequence[int], divisor: int
) -> Shaped[Tensor, "..."]:
    """Append zeros in some dimensions until `divisor` divides them; no copy if it does already.

    In a graph that is traced for many sizes the zeros, perhaps none, are always appended.

    Args:
        x: Any tensor.
        dims: Dimensions that grow, counted from the front.
        divisor: What divides them afterwards.
    """
    missing = {dim: divide_up(x.shape[dim], divisor) * divisor - x.shape[dim] for dim in dims}
    if all(is_known_true(amount == 0) for amount in missing.values()):
        return x
    behind = [missing.get(dim, 0) for dim in reversed(range(min(dims), x.ndim))]
    return F.pad(x, [amount for count in behind for amount in (0, count)])


def crop(x: Shaped[Tensor, "..."], dim: int, size: int) -> Shaped[Tensor, "..."]:
    """Keep the first `size` entries of a dimension; no copy if it has no more.

    Args:
        x: Any tensor.
        dim: Dimension that shrinks.
        size: Number of entries that are kept, at most those that are there.
    """
    if is_known_true(x.shape[dim] == size):
        return x
    # Selected, not sliced: of a slice, a graph traced for many sizes would have to know that it
    # fits and whether it leaves anything out.
    return x.index_select(dim, torch.arange(size, device=x.device))
