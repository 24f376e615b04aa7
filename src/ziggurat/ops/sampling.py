"""Draw some of many candidates, since nearly all of them are easy background."""

import torch
from jaxtyping import Int
from torch import Tensor


def draw_balanced(
    matches: Int[Tensor, " N"], count: int, foreground_share: float
) -> tuple[Int[Tensor, " P"], Int[Tensor, " Q"]]:
    """Draw at most `count` candidates, of which at most a share is foreground.

    Too few foreground candidates are made up for by background, not the reverse. Draws from torch's
    global generator.

    Args:
        matches: Object of each candidate, or BACKGROUND, or IGNORED.
        count: Number to draw.
        foreground_share: Largest part of them that is foreground.

    Returns:
        Indices of the foreground and of the background that was drawn, each in rising order.
    """
    foreground = _draw((matches >= 0).nonzero().flatten(), int(count * foreground_share))
    background = _draw((matches == -1).nonzero().flatten(), count - len(foreground))
    return foreground, background


def _draw(indices: Int[Tensor, " N"], count: int) -> Int[Tensor, " n"]:
    if len(indices) <= count:
        return indices
    chosen = torch.randperm(len(indices), device=indices.device)[:count]
    return indices[chosen.sort().values]
