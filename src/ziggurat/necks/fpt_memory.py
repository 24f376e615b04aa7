"""How much memory a pass of a Feature Pyramid Transformer takes, said before it runs.

Nothing of size N x N is ever held. What remains are maps: without gradients the laterals and a few
more of the finest, with them what each look and each fusion keeps; and the chunks that attention
works on. The numbers below were measured on a CPU (`benchmarks/fpt_memory.py`). On an NVIDIA GPU
fused attention holds queries, keys, values and results at the width of all heads together: that is
computed from their sizes, and was not measured.
"""

from collections.abc import Sequence

from torch import nn

from ziggurat.layers.grounding_transformer import (
    EuclideanGrounding,
    GroundingTransformer,
    LocalGrounding,
)
from ziggurat.layers.rendering_transformer import PlainRendering, RenderingTransformer
from ziggurat.layers.self_transformer import PartPrior, SelfTransformer
from ziggurat.ops.mixture_attention import head_widths
from ziggurat.types import ImageSize

MAPS_AT_A_TIME = 8
"""Maps of the finest size that a pass without gradients holds beside the laterals."""
LOCAL_MAPS_AT_A_TIME = 36
"""The same where the published code's local attention is taken, whose scores are by channel."""
KEPT: dict[type[nn.Module], float] = {
    SelfTransformer: 4,
    GroundingTransformer: 2.5,
    EuclideanGrounding: 2,
    LocalGrounding: 7.5,
    RenderingTransformer: 4.5,
    PlainRendering: 2.5,
}
"""Maps of the size of its result that a transformer keeps for its gradient, beside the result."""
KEPT_AROUND = 5
"""Maps of each level that the gradients of laterals, base and fusion need."""
BUFFERS = 2**28
"""Bytes that chunks of attention take at most, whatever the size of the maps."""

Pair = tuple[int, int, nn.Module]
"""The level whose map a transformer makes, the level that it looks at, and the transformer."""


def numbers_held(
    looks: Sequence[Pair],
    sizes: Sequence[ImageSize],
    channels: int,
    *,
    learns: bool,
    forgets: bool,
    on_cuda: bool,
) -> int:
    """Return how many numbers a pass holds for each image, beside its input.

    Args:
        looks: All transformers of the pyramid.
        sizes: Height and width of each map.
        channels: Channels of each map.
        learns: Whether what gradients need is kept.
        forgets: Whether what is within a transformer is computed again for its gradient.
        on_cuda: Whether it runs on an NVIDIA GPU.
    """
    numbers = [height * width * channels for height, width in sizes]
    copies = [
        numbers_of_heads(look, sizes[level], sizes[other]) if on_cuda else 0
        for level, other, look in looks
    ]
    is_local = any(isinstance(look, LocalGrounding) for _, _, look in looks)
    working = (LOCAL_MAPS_AT_A_TIME if is_local else MAPS_AT_A_TIME) * max(numbers)
    working += max(copies, default=0)
    if not learns:
        return sum(numbers) + working
    # A fusion keeps the result of each look, for the gradient of its weights.
    kept = (KEPT_AROUND + len(sizes)) * sum(numbers)
    if forgets:
        kept += max(copies, default=0)  # of the one that is computed again
    else:
        kept += sum(int(KEPT[type(look)] * numbers[level]) for level, _, look in looks)
        kept += sum(copies)
    return kept + working


def numbers_of_heads(look: nn.Module, size: ImageSize, other_size: ImageSize) -> int:
    """Return how many numbers fused heads hold: queries and results, keys and values.

    Args:
        look: A transformer; those without a softmax over a whole map have no heads.
        size: Height and width of the map that it makes.
        other_size: Height and width of the map that it looks at.
    """
    queries = size[0] * size[1]
    if isinstance(look, SelfTransformer):
        stride = 2 if look.pools else 1
        keys = -(-other_size[0] // stride) * -(-other_size[1] // stride)
        tokens = queries + _within(look.key_budget, keys)
        return 2 * tokens * _channels_of_heads(look.v.out_channels, look.prior, has_bias=False)
    if isinstance(look, EuclideanGrounding) and look.window is None:
        tokens = queries + _within(look.key_budget, other_size[0] * other_size[1])
        return 2 * tokens * _channels_of_heads(look.v.out_channels, look.prior, has_bias=True)
    return 0


def _within(budget: int | None, keys: int) -> int:
    return keys if budget is None else min(keys, budget)


def _channels_of_heads(channels: int, prior: PartPrior, *, has_bias: bool) -> int:
    width, widest = head_widths(channels, channels, prior.parts, has_bias=has_bias)
    return prior.parts * (channels // width) * widest
