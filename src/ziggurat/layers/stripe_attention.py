"""Attention in stripes: one half of the heads looks along columns, the other along rows.

A query sees the whole height or width of the map, two cells thin: after two layers every cell has
seen every other, at a cost of N * (H + W) instead of N^2 (CSWin, Dong et al., arXiv:2107.00652).

Shapes: B images, C channels, H x W map, N = H * W tokens, S stripes, D = C / heads.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ziggurat.layers.tokens import to_map
from ziggurat.ops.attention import attend
from ziggurat.ops.padding import crop, divide_up, pad_to_multiple
from ziggurat.ops.traced_sizes import is_known_true

THICKNESS = 2
"""Rows of a horizontal stripe, columns of a vertical one."""


class StripeAttention(nn.Module):
    """Self-attention inside vertical stripes (first half of the channels) and horizontal ones.

    Positions come in through LePE (arXiv:2107.00652, eq. 8): a depthwise convolution of the values
    is added to what attention gives. It ends at the border of its stripe, as attention does.

    If the last stripe sticks out of the map by a row, nobody attends to that row, and the
    convolution finds there the zeros that it finds beyond any border.

    Args:
        dim: Number of channels C.
        num_heads: Number of attention heads of both directions together.

    Raises:
        ValueError: If `num_heads` is odd or does not divide `dim`.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if num_heads % 2 or dim % num_heads:
            raise ValueError(
                f"num_heads must be even and divide dim, got dim={dim}, num_heads={num_heads}"
            )
        self.heads_per_direction = num_heads // 2
        half = dim // 2
        self.qkv = nn.Linear(dim, 3 * dim)
        self.lepe = nn.ModuleList(
            nn.Conv2d(half, half, 3, padding=1, groups=half) for _ in range(2)
        )
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Mix tokens in both directions, half of the channels in each."""
        qkv = self.qkv(x.permute(0, 2, 3, 1)).unflatten(-1, (3, 2, -1))
        vertical, horizontal = qkv.unbind(-2)
        for_columns, for_rows = cast(tuple[nn.Conv2d, nn.Conv2d], tuple(self.lepe))
        # Columns are the rows of the transposed map. Theirs is the only copy: in memory, what lies
        # in a vertical stripe is not evenly spaced.
        by_columns = self._attend(vertical.transpose(1, 2), for_columns.weight.mT, for_columns.bias)
        by_rows = self._attend(horizontal, for_rows.weight, for_rows.bias)
        y: Tensor = self.proj(torch.cat((by_columns.transpose(1, 2), by_rows), dim=-1))
        return y.permute(0, 3, 1, 2)

    def _attend(
        self,
        qkv: Float[Tensor, "B H W 3 half"],
        kernel: Float[Tensor, "half 1 3 3"],
        bias: Float[Tensor, " half"] | None,
    ) -> Float[Tensor, "B H W half"]:
        """Attend inside horizontal stripes.

        Args:
            qkv: Queries, keys and values of each pixel.
            kernel: Kernel of LePE.
            bias: Bias of LePE.
        """
        batch, height, width, _, half = qkv.shape
        num_stripes = divide_up(height, THICKNESS)
        is_whole = is_known_true(height % THICKNESS == 0)
        if is_whole:
            stripes = qkv.unflatten(1, (num_stripes, THICKNESS)).flatten(2, 3).flatten(0, 1)
        else:
            # By way of one dimension: traced sizes are never merged two by two.
            pixels = pad_to_multiple(qkv, (1,), THICKNESS).flatten().view(-1, 3 * half)
            stripes = pixels.view(batch * num_stripes, THICKNESS * width, 3 * half)
            stripes = stripes.unflatten(2, (3, half))
        q, k, v = stripes.unflatten(-1, (self.heads_per_direction, -1)).transpose(1, 3).unbind(2)
        if is_whole:
            y = attend(q, k, v)
        else:
            mask = _inside(height, width, batch, qkv.device)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = y.transpose(1, 2).flatten(2)
        values = to_map(stripes[:, :, 2], (THICKNESS, width))
        lepe = F.conv2d(values, kernel, bias, padding=1, groups=half)
        y = y.unflatten(1, (THICKNESS, width)) + lepe.permute(0, 2, 3, 1)
        y = y.flatten().view(-1, half).view(batch, THICKNESS * num_stripes, width, half)
        return crop(y, 1, height)


def _inside(
    height: int, width: int, batch: int, device: torch.device
) -> Bool[Tensor, "stripes 1 1 keys"]:
    """Mark the keys of each stripe that lie inside the map."""
    num_stripes = divide_up(height, THICKNESS)
    stripe = torch.arange(batch * num_stripes, device=device) % num_stripes
    row = torch.arange(THICKNESS * width, device=device) // width
    return (THICKNESS * stripe[:, None] + row < height)[:, None, None]
