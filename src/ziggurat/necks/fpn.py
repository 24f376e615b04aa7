"""Feature Pyramid Network (Lin et al., arXiv:1612.03144).

Coarse maps know what is in the image, fine maps where: from the coarsest down, each map is
doubled in size and added to the next finer one, so that every level knows both.
"""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class FPN(nn.Module):
    """1x1 laterals, top-down sums, 3x3 output convolutions, no activation anywhere.

    Args:
        in_channels: Channels of the backbone's maps, fine to coarse.
        in_strides: Their strides.
        out_channels: Channels of every level.
        start_level: Index of the finest map that is used.
        num_extra_levels: Levels beyond the coarsest map, each a 3x3 convolution of stride 2.
        extra_from: Where the first extra level comes from: the coarsest map of the backbone
            ("input", as in RetinaNet's paper) or the coarsest level ("output").

    Raises:
        ValueError: If `extra_from` is neither.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        out_channels: int,
        *,
        start_level: int,
        num_extra_levels: int,
        extra_from: Literal["input", "output"],
    ) -> None:
        super().__init__()
        if extra_from not in ("input", "output"):
            raise ValueError(f"extra_from must be 'input' or 'output', got {extra_from!r}")
        self.start_level = start_level
        self.extra_from = extra_from
        used = list(in_channels)[start_level:]
        strides = list(in_strides)[start_level:]
        self.num_maps = len(used)
        self.out_channels = (out_channels,) * (self.num_maps + num_extra_levels)
        self.out_strides = (
            *strides,
            *(strides[-1] * 2 ** (i + 1) for i in range(num_extra_levels)),
        )
        self.lateral_convs = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in used)
        self.output_convs = nn.ModuleList(
            nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in used
        )
        for i in range(num_extra_levels):
            first = used[-1] if extra_from == "input" else out_channels
            self.output_convs.append(
                nn.Conv2d(first if i == 0 else out_channels, out_channels, 3, stride=2, padding=1)
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(
        self, features: Sequence[Float[Tensor, "B _ _ _"]]
    ) -> list[Float[Tensor, "B out _ _"]]:
        """Return the levels, fine to coarse: P3..P7 from C3..C5 in RetinaNet."""
        used = features[self.start_level :]
        sums = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        for i in range(self.num_maps - 1, 0, -1):
            # To the exact finer size: an odd map is not half of its neighbour.
            sums[i - 1] = sums[i - 1] + F.interpolate(sums[i], size=sums[i - 1].shape[2:])
        levels = [conv(x) for conv, x in zip(self.output_convs, sums, strict=False)]
        x = used[-1] if self.extra_from == "input" else levels[-1]
        for conv in self.output_convs[self.num_maps :]:
            # No ReLU between the extra levels; torchvision has one, the published weights do not.
            x = conv(x)
            levels.append(x)
        return levels
