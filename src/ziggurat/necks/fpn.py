"""Feature Pyramid Network (Lin et al., arXiv:1612.03144).

Coarse maps know what is in the image, fine maps where: from the coarsest down, each map is
doubled in size and added to the next finer one, so that every level knows both.
"""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.layers.strided_conv import StridedConv


class FPN(nn.Module):
    """1x1 laterals, top-down sums, 3x3 output convolutions, no activation anywhere.

    Args:
        in_channels: Channels of the backbone's maps, fine to coarse.
        in_strides: Their strides.
        out_channels: Channels of every level.
        start_level: Index of the finest map that is used.
        num_extra_levels: Levels beyond the coarsest map, each half as large as the one before.
        extra_from: What the first extra level is made of: the coarsest map of the backbone
            ("input", as in RetinaNet's paper) or the coarsest level ("output"), by a 3x3
            convolution of stride 2; or every second cell of the coarsest level ("subsample", as
            Faster R-CNN's proposals need it).
        has_norm: Whether a batch norm stands behind every convolution, in place of its bias, as
            in GPViT's detectors.

    Raises:
        ValueError: If `extra_from` is none of these.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        out_channels: int,
        *,
        start_level: int,
        num_extra_levels: int,
        extra_from: Literal["input", "output", "subsample"],
        has_norm: bool = False,
    ) -> None:
        super().__init__()
        if extra_from not in ("input", "output", "subsample"):
            raise ValueError(
                f"extra_from must be 'input', 'output' or 'subsample', got {extra_from!r}"
            )
        self.start_level = start_level
        self.num_extra_levels = num_extra_levels
        self.extra_from = extra_from
        self.has_norm = has_norm
        used = list(in_channels)[start_level:]
        strides = list(in_strides)[start_level:]
        self.num_maps = len(used)
        self.out_channels = (out_channels,) * (self.num_maps + num_extra_levels)
        self.out_strides = (
            *strides,
            *(strides[-1] * 2 ** (i + 1) for i in range(num_extra_levels)),
        )
        self.lateral_convs = nn.ModuleList(_conv(c, out_channels, 1, 1, has_norm) for c in used)
        self.output_convs = nn.ModuleList(
            _conv(out_channels, out_channels, 3, 1, has_norm) for _ in used
        )
        for i in range(num_extra_levels if extra_from != "subsample" else 0):
            first = used[-1] if i == 0 and extra_from == "input" else out_channels
            self.output_convs.append(_conv(first, out_channels, 3, 2, has_norm))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

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
        if self.extra_from == "subsample":
            for _ in range(self.num_extra_levels):
                levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
            return levels
        x = used[-1] if self.extra_from == "input" else levels[-1]
        for conv in self.output_convs[self.num_maps :]:
            # No ReLU between the extra levels; torchvision has one, the published weights do not.
            x = conv(x)
            levels.append(x)
        return levels


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, has_norm: bool
) -> nn.Module:
    if has_norm:
        return ConvNorm(in_channels, out_channels, kernel_size, stride=stride)
    kind = StridedConv if stride > 1 else nn.Conv2d
    return kind(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
