"""A pyramid of given strides from the maps of any backbone.

Detectors are built for maps of the strides 4, 8, 16 and 32. GPViT gives four maps of stride 8, a
plain ViT of timm maps of stride 16, others lack the finest one: what is missing is resized from
the nearest map, as Li et al. (arXiv:2203.16527) make a pyramid of a plain backbone.
"""

from collections.abc import Sequence
from math import log2

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class StridePyramid(nn.Module):
    """Choose or resize one map for each stride; no parameters.

    A map of the stride itself is passed on, the deepest if there are several. Of a backbone
    whose maps all have one stride, as many as strides, each stride gets its own map. Else the
    nearest map is resized, bilinearly.

    Args:
        in_channels: Channels of the backbone's maps, fine to coarse.
        in_strides: Their strides.
        strides: Strides of the pyramid, fine to coarse.
    """

    def __init__(
        self, in_channels: Sequence[int], in_strides: Sequence[int], strides: Sequence[int]
    ) -> None:
        super().__init__()
        self.in_strides = tuple(in_strides)
        self.out_strides = tuple(strides)
        if len(set(in_strides)) == 1 and len(in_strides) == len(strides):
            self.sources = tuple(range(len(strides)))
        else:
            self.sources = tuple(nearest_map(in_strides, stride) for stride in strides)
        self.out_channels = tuple(in_channels[source] for source in self.sources)

    def forward(
        self, features: Sequence[Float[Tensor, "B _ _ _"]]
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """Return one map for each stride."""
        maps = []
        for source, stride in zip(self.sources, self.out_strides, strict=True):
            x, given = features[source], self.in_strides[source]
            if given != stride:
                size = [(side * given + stride - 1) // stride for side in x.shape[2:]]
                x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            maps.append(x)
        return maps


def nearest_map(in_strides: Sequence[int], stride: int) -> int:
    """Return the index of the map of the nearest stride, the deepest of equally near ones.

    Args:
        in_strides: Strides of the maps, fine to coarse.
        stride: The stride that is looked for.
    """
    distances = [abs(log2(given / stride)) for given in in_strides]
    return max(i for i, distance in enumerate(distances) if distance == min(distances))
