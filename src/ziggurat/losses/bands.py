"""Coarse logits at the resolution of the labels, a band of rows at a time.

A head answers at a quarter of the resolution, a loss looks at every pixel: 150 maps of 512 x 512
are 157 MB an image, and as much again for each step of a loss that autograd remembers. A loss needs
a pixel only once, so rows are enlarged, looked at, and what follows for the coarse logits is
added up before the next rows come. Classes lie last in memory, where bilinear interpolation and
its adjoint run over them instead of over single pixels: on a CPU that alone is most of the time.

Shapes: B images, K classes, h x w cells of the head, H x W pixels, R rows of a band.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ziggurat.ops.precision import without_autocast
from ziggurat.types import ImageSize

_CPU_VALUES = 1 << 22
"""Enlarged values of a band on a CPU: 16 MB. Fewer are no faster on one thread, and several
threads wait for each other after every band, long on a machine that has other work too."""
_OTHER_VALUES = 1 << 25
"""The same on other devices, which want still fewer and larger pieces of work."""


def classes_last(logits: Float[Tensor, "B K h w"]) -> Float[Tensor, "B h w K"]:
    """Return logits with the classes of a cell side by side, in 32 bits or more.

    Args:
        logits: Class logits.
    """
    is_short = logits.dtype in (torch.float16, torch.bfloat16)
    return (logits.float() if is_short else logits).permute(0, 2, 3, 1).contiguous()


class BandResize:
    """Bilinear resizing by bands of rows, and its adjoint.

    The values are those of `F.interpolate(mode="bilinear", align_corners=False)` up to rounding.

    Args:
        small: Height and width of the coarse map.
        large: Height and width of the pixels.
        like: Tensor whose device and dtype the maps have.
    """

    def __init__(self, small: ImageSize, large: ImageSize, like: Tensor) -> None:
        self.small = small
        self.large = large
        self.is_same = tuple(small) == tuple(large)
        self.values = _CPU_VALUES if like.device.type == "cpu" else _OTHER_VALUES
        at = (torch.arange(large[0], dtype=torch.float64) + 0.5) * (small[0] / large[0]) - 0.5
        at = at.clamp(min=0)
        upper = at.floor()
        self.upper = upper.long().clamp(max=small[0] - 1).to(like.device)
        self.lower = (self.upper + 1).clamp(max=small[0] - 1)
        self.share = (at - upper)[:, None, None].to(like)
        """How much of a row comes from the lower one of its two coarse rows."""

    def bands(self, num_classes: int) -> Iterator[slice]:
        """Cut the rows of an image into bands.

        Args:
            num_classes: Values of a pixel.

        Yields:
            Rows of each band.
        """
        height, width = self.large
        rows = max(1, self.values // (width * num_classes))
        for start in range(0, height, rows):
            yield slice(start, min(start + rows, height))

    def enlarge(self, x: Float[Tensor, "h w K"], rows: slice) -> Float[Tensor, "R W K"]:
        """Return some rows of the resized map, in memory of their own.

        Args:
            x: Coarse map of an image.
            rows: Rows of the result.
        """
        if self.is_same:
            return x[rows].clone()
        band = torch.lerp(x[self.upper[rows]], x[self.lower[rows]], self.share[rows])
        size = (band.shape[0], self.large[1])
        wide = F.interpolate(_maps(band), size=size, mode="bilinear", align_corners=False)
        return wide[0].permute(1, 2, 0)

    def add_adjoint(
        self, grad: Float[Tensor, "R W K"], rows: slice, total: Float[Tensor, "h w K"]
    ) -> None:
        """Add the gradient of a coarse map that follows from that of some rows.

        Args:
            grad: Gradient of what `enlarge` returned.
            rows: Rows that it belongs to.
            total: Gradient of the coarse map, which is added to.
        """
        if self.is_same:
            total[rows] += grad
            return
        maps = _maps(grad)
        narrow = (1, maps.shape[1], maps.shape[2], self.small[1])
        band = torch.ops.aten.upsample_bilinear2d_backward(maps, maps.shape[2:], narrow, False)
        band = band[0].permute(1, 2, 0)
        upper, lower, share = self.upper[rows], self.lower[rows], self.share[rows]
        if total.device.type == "cpu":
            # `index_add_` takes many times as long as a product with the few rows that are touched.
            first, last = int(upper[0]), int(lower[-1]) + 1
            shares = band.new_zeros(len(band), last - first)
            shares.scatter_add_(1, (upper - first)[:, None], 1 - share[:, :, 0])
            shares.scatter_add_(1, (lower - first)[:, None], share[:, :, 0])
            with without_autocast(total.device):
                total[first:last].view(last - first, -1).addmm_(shares.T, band.flatten(1))
            return
        part = band * share
        total.index_add_(0, lower, part)
        total.index_add_(0, upper, band.sub_(part))


def _maps(band: Float[Tensor, "R w K"]) -> Float[Tensor, "1 K R w"]:
    """View a band as maps in channels_last memory."""
    # Adding the first side last gives it a stride that PyTorch does not take for channels_last.
    return band[None].permute(0, 3, 1, 2)
