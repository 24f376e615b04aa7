"""Classes of squares of pixels from the cells that they are made of.

Bilinear values are means of the cells around. So where one class is the best of all cells that a
square of pixels is made of, it is the best of every pixel in it, and nothing has to be computed:
most of a photo, since classes are regions. In the other squares a class that is nowhere near the
best of the cells cannot win, and the values of the rest are two small matrix products.

Shapes: K classes, h x w cells, squares of S x S pixels, each made of a x b cells.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ziggurat.ops.precision import without_autocast

SIDE = 16
"""Side of a square, in pixels."""


MOST_OPEN = 0.6
"""Share of squares of several classes up to which this way is worth its while."""


@dataclass(frozen=True)
class Windows:
    """What the pixels of an axis are made of, `SIDE` pixels after the other.

    Attributes:
        cells: Indices of the cells of each window; windows are of one length.
        shares: How much each pixel gets of each cell of its window.
    """

    cells: Int[Tensor, "n a"]
    shares: Float[Tensor, "n S a"]

    @property
    def num_cells(self) -> int:
        """Length of a window."""
        return self.cells.shape[1]


@dataclass(frozen=True)
class FoundLabels:
    """Classes of whole squares, which may reach beyond the image.

    Attributes:
        labels: Class of each pixel.
        unclear: Where a second class comes so near that rounding may decide.
        rivals: The classes that come so near somewhere.
    """

    labels: Int[Tensor, "H W"]
    unclear: Bool[Tensor, "H W"]
    rivals: Bool[Tensor, " K"]


def windows_of(shares: Float[Tensor, "pixels cells"]) -> Windows:
    """Cut an axis into windows.

    Args:
        shares: How much each pixel gets of each cell.
    """
    pixels, cells = shares.shape
    missing = -pixels % SIDE
    padded = torch.cat((shares, shares[-1:].expand(missing, -1)))  # of which nothing is shown
    by_window = padded.unflatten(0, (-1, SIDE))
    is_used = (by_window != 0).any(dim=1).byte()
    first = is_used.argmax(dim=1)
    last = cells - 1 - is_used.flip(1).argmax(dim=1)
    length = int((last - first).amax()) + 1
    first = first.clamp(max=cells - length)
    indices = first[:, None] + torch.arange(length, device=shares.device)
    chosen = by_window.gather(2, indices[:, None].expand(-1, SIDE, -1))
    return Windows(indices, chosen)


def find_labels(
    logits: Float[Tensor, "K h w"],
    rows: Windows,
    columns: Windows,
    *,
    tolerance: float,
    values_at_a_time: int,
) -> FoundLabels | None:
    """Return the best class of every pixel, and where this is not certain.

    None means that most squares are of several classes, for which this way is the slower one.

    Args:
        logits: Class logits of one image, finite.
        rows: What the rows of pixels are made of.
        columns: What the columns are made of.
        tolerance: Differences that rounding may cause or hide.
        values_at_a_time: Values of pixels that are held at once.
    """
    num_classes = len(logits)
    best, label = logits.max(dim=0)
    second = logits.scatter(0, label[None], -torch.inf).amax(dim=0)
    of_cells = torch.where(best - second > tolerance, label, -1)
    in_squares = of_cells[rows.cells[:, None, :, None], columns.cells[None, :, None]].flatten(2)
    lowest, highest = in_squares.aminmax(dim=2)
    is_open = (lowest != highest) | (lowest < 0)
    if is_open.float().mean() > MOST_OPEN:
        return None
    size = (len(rows.cells) * SIDE, len(columns.cells) * SIDE)
    labels = lowest.to(torch.int16).repeat_interleave(SIDE, 0).repeat_interleave(SIDE, 1)
    unclear = torch.zeros(size, dtype=torch.bool, device=logits.device)
    rivals = torch.zeros(num_classes, dtype=torch.bool, device=logits.device)
    label_squares, unclear_squares = (
        x.view(len(rows.cells), SIDE, len(columns.cells), SIDE).transpose(1, 2)
        for x in (labels, unclear)
    )
    by_cell = logits.permute(1, 2, 0).contiguous()
    at_a_time = max(1, values_at_a_time // (SIDE * SIDE * num_classes))
    for i, j in zip(*(x.split(at_a_time) for x in is_open.nonzero(as_tuple=True)), strict=True):
        if not len(i):  # every square is of one class
            break
        cells = by_cell[rows.cells[i][:, :, None], columns.cells[j][:, None, :]]
        highest, lowest = cells.amax(dim=(1, 2)), cells.amin(dim=(1, 2))
        sure = lowest.amax(dim=1, keepdim=True)
        possible = (highest >= sure - tolerance).any(dim=0).nonzero().flatten()
        cells = cells[..., possible]
        with without_autocast(logits.device):  # the tolerance is one of float32
            along_rows = (rows.shares[i] @ cells.flatten(2)).unflatten(2, cells.shape[2:])
            values = columns.shares[j][:, None] @ along_rows
        top, index = values.max(dim=3)
        is_near = values >= (top - tolerance)[..., None]
        is_unclear = is_near.sum(dim=3) > 1
        label_squares[i, j] = possible[index].to(torch.int16)
        unclear_squares[i, j] = is_unclear
        rivals[possible] |= is_near[is_unclear].any(dim=0)
    return FoundLabels(labels, unclear, rivals)
