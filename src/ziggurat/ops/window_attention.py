"""Attention to a small window of a map around each pixel (arXiv:2007.09451, section 3.3)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ziggurat.ops.precision import at_least_float32, without_autocast

NUMBERS_AT_A_TIME = 2**22
"""Numbers of keys and values that are gathered at once, 16 MiB each."""

Read = Callable[
    [Float[Tensor, "B C h W"], Float[Tensor, "B C h W K"], Float[Tensor, "B V h W K"]],
    Float[Tensor, "B V h W"],
]
"""Takes queries, and the K keys and values of the window of each; returns what was found."""


def window_attention(
    q: Float[Tensor, "B C H W"],
    k: Float[Tensor, "B C h w"],
    v: Float[Tensor, "B C h w"],
    *,
    window: int,
) -> Float[Tensor, "B C H W"]:
    """Let each fine pixel read the window around its own place on the coarse map.

    Scores are -|q - k|^2. Beyond the border keys and values are 0 and take part, as the paper words
    it.

    Args:
        q: Queries, one for each fine pixel.
        k: Keys on the coarse map.
        v: Values there.
        window: Side of the window, odd; another is a `ValueError`.
    """
    return read_windows(_by_distance, q, k, v, window=window)


def read_windows(
    read: Read,
    q: Float[Tensor, "B C H W"],
    k: Float[Tensor, "B C h w"],
    v: Float[Tensor, "B V h w"],
    *,
    window: int,
) -> Tensor:
    """Give each fine pixel the window around its own place on the coarse map, zeros beyond it.

    The place of row y is floor(y h / H). Rows are taken a few at a time and computed again for the
    gradient, so that the windows of all pixels are never held together.

    Args:
        read: What is done with them.
        q: Queries, one for each fine pixel.
        k: Keys on the coarse map.
        v: Values there.
        window: Side of the window, odd.

    Raises:
        ValueError: If the window has no middle.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the window must have a middle, an odd side, got {window}")
    height, width = q.shape[2:]
    middle = window // 2
    k, v = (F.pad(x, (middle,) * 4) for x in (k, v))
    rows = torch.arange(height, device=q.device) * (k.shape[2] - 2 * middle) // height
    columns = torch.arange(width, device=q.device) * (k.shape[3] - 2 * middle) // width
    reach = torch.arange(window, device=q.device)
    columns = (columns[:, None] + reach).flatten()
    channels = max(k.shape[1], v.shape[1])
    band = max(1, NUMBERS_AT_A_TIME // (q.shape[0] * channels * window * len(columns)))

    def read_band(q: Tensor, k: Tensor, v: Tensor, rows: Tensor) -> Tensor:
        return read(q, *(_windows(x, rows, columns, window) for x in (k, v)))

    bands = []
    for first in range(0, height, band):
        chosen = (rows[first : first + band, None] + reach).flatten()
        arguments = (q[:, :, first : first + band], k, v, chosen)
        if torch.is_grad_enabled():
            out: Tensor = checkpoint(read_band, *arguments, use_reentrant=False)
        else:
            out = read_band(*arguments)
        bands.append(out)
    return torch.cat(bands, dim=2)


def _windows(x: Tensor, rows: Tensor, columns: Tensor, window: int) -> Tensor:
    """Return (B, C, H, W, window * window)."""
    found = x[:, :, rows][..., columns]
    sides = found.unflatten(3, (-1, window)).unflatten(2, (-1, window))
    return sides.transpose(3, 4).flatten(4)


def _by_distance(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with without_autocast(q.device):  # squares overflow half precision
        differences = at_least_float32(q)[..., None] - at_least_float32(k)
        weights = (-differences.square().sum(dim=1, keepdim=True)).softmax(dim=4)
        return (weights * at_least_float32(v)).sum(dim=4).to(q.dtype)
