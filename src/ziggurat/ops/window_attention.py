"""Attention to a small window of a map around each pixel (arXiv:2007.09451, section 3.3).

All fine pixels that stand in one coarse cell read the same window. So pixels are put together by
their cell, and a window is gathered once for all of them; a few rows of cells at a time, in buffers
that are made once (see `chunked_attention` for why), with the gradient written out.

Shapes: B images, H x W fine pixels in h x w coarse cells, P places of pixels in a cell, C channels,
K keys of a window.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ziggurat.errors import ZigguratError
from ziggurat.ops.precision import at_least_float32, without_autocast

NUMBERS_AT_A_TIME = 2**22
"""Numbers of keys, and of values, that are gathered at once, 16 MiB each."""


def window_attention(
    q: Float[Tensor, "B C H W"],
    k: Float[Tensor, "B C h w"],
    v: Float[Tensor, "B C h w"],
    *,
    window: int,
) -> Float[Tensor, "B C H W"]:
    """Let each fine pixel read the window around its own place on the coarse map.

    Scores are -|q - k|^2. The place of row y is floor(y h / H). Beyond the border keys and values
    are 0 and take part, as the paper words it.

    Args:
        q: Queries, one for each fine pixel.
        k: Keys on the coarse map.
        v: Values there.
        window: Side of the window, odd; another is a `ZigguratError`.
    """
    check_window(window)
    cells = _Cells(q, k)
    with without_autocast(q.device):  # squares overflow half precision
        centre = at_least_float32(k.detach()).mean(dim=(2, 3))[:, None, None]
        # Distances do not change when all move alike, and smaller numbers lose fewer digits.
        queries = at_least_float32(q).permute(0, 2, 3, 1) - centre
        keys, values = (
            F.pad(at_least_float32(x).permute(0, 2, 3, 1), (0, 0, *(window // 2,) * 4))
            for x in (k, v)
        )
        keys = keys - centre
        if q.is_meta or torch.compiler.is_exporting():
            found = _attend_at_once(queries, keys, values, cells, window)
        else:
            found = _attend_in_bands(queries, keys, values, cells, window)
        return found.permute(0, 3, 1, 2).to(q.dtype)


def check_window(window: int) -> None:
    """Raise if a window has no middle.

    Args:
        window: Its side.

    Raises:
        ZigguratError: If it has none.
    """
    if window < 1 or window % 2 == 0:
        raise ZigguratError(f"the window must have a middle, an odd side, got {window}")


class _Cells:
    """Which fine pixels stand in which coarse cell.

    Where a side of the fine map is no multiple of the coarse one's, some cells have fewer pixels
    than others: their last places repeat some pixel, and nobody reads what is found there.
    """

    def __init__(self, fine: Tensor, coarse: Tensor) -> None:
        (self.fine_height, fine_width), (self.height, self.width) = fine.shape[2:], coarse.shape[2:]
        rows, is_row, row_places = _places(self.fine_height, self.height, fine.device)
        columns, is_column, column_places = _places(fine_width, self.width, fine.device)
        depth = columns.shape[1]
        self.places = rows.shape[1] * depth
        self.pixels = rows[:, None, :, None] * fine_width + columns[:, None]
        self.is_pixel = is_row[:, None, :, None] & is_column[:, None]
        # Places in the order of cells, each with its rows: those of a pixel's row, its column.
        row, row_within = row_places // rows.shape[1], row_places % rows.shape[1]
        column, column_within = column_places // depth, column_places % depth
        cells = row[:, None] * self.width + column
        self.place_of = cells * self.places + row_within[:, None] * depth + column_within

    def gather(self, x: Tensor, rows: slice) -> Tensor:
        """Return the pixels of some rows of cells, (B, rows * w, P, C)."""
        chosen = x.flatten(1, 2).index_select(1, self.pixels[rows].flatten())
        return chosen.unflatten(1, (-1, self.places))

    def scatter(self, x: Tensor, rows: slice) -> Tensor:
        """Return what `gather` brought together row by row, (B, pixels, C)."""
        chosen = self.place_of[self.fine_rows(rows)] - rows.start * self.width * self.places
        return x.flatten(1, 2).index_select(1, chosen.flatten())

    def fine_rows(self, rows: slice) -> slice:
        """Return the rows of pixels that stand in some rows of cells."""
        first, last = (-(-row * self.fine_height // self.height) for row in (rows.start, rows.stop))
        return slice(first, last)


def _places(fine: int, coarse: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Put the pixels of a side into the cells of a side.

    Returns:
        For each cell and place the pixel, and whether there is one; for each pixel its place, the
        places of all cells being counted through.
    """
    depth = -(-fine // coarse)
    first = -(-torch.arange(coarse + 1, device=device) * fine // coarse)
    pixels = first[:-1, None] + torch.arange(depth, device=device)
    is_pixel = pixels < first[1:, None]
    pixel = torch.arange(fine, device=device)
    cell = pixel * coarse // fine
    return pixels.clamp(max=fine - 1), is_pixel, cell * depth + pixel - first[cell]


def _windows(x: Tensor, window: int) -> Tensor:
    """Return a view of all windows of a padded map, (B, h, w, window, window, C)."""
    return x.unfold(1, window, 1).unfold(2, window, 1).permute(0, 1, 2, 4, 5, 3)


def _weights(queries: Tensor, keys: Tensor) -> Tensor:
    """Return how much each place of each cell reads of its window, (cells, P, K).

    -|q - k|^2 = 2 q . k - |k|^2 - |q|^2, and the last term leaves the softmax as it is.
    """
    squares = torch.linalg.vector_norm(keys, dim=2).square_()
    return torch.baddbmm(-squares[:, None], queries, keys.mT, alpha=2).softmax(dim=2)


class _Buffer:
    """Windows of some rows of cells, copied into memory that is made once."""

    def __init__(self, padded: Tensor, window: int, rows: int) -> None:
        self.windows = _windows(padded, window)
        batch, _, width, *_, channels = self.windows.shape
        self.shape = -1, window * window, channels
        self.memory = padded.new_empty(batch * rows * width * window * window * channels)

    def view(self, num_cells: int) -> Tensor:
        """Return room for the windows of so many cells of all images, (cells, K, C)."""
        return self.memory[: num_cells * self.shape[1] * self.shape[2]].view(self.shape)

    def fill(self, rows: slice) -> Tensor:
        """Return the windows of some rows, (cells, K, C)."""
        windows = self.windows[:, rows]
        room = self.view(windows.shape[:3].numel())
        room.view(windows.shape).copy_(windows)
        return room


class _WindowAttention(Function):
    """softmax(-|q - k|^2) v over the window of each cell, a few rows of cells at a time."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch makes it
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cells: _Cells,
        window: int,
    ) -> Tensor:
        """Return what each pixel read, (B, H, W, C)."""
        ctx.save_for_backward(q, k, v)
        ctx.cells, ctx.window = cells, window
        bands = _bands(k, cells, window)
        keys, values = (_Buffer(x, window, bands[0].stop) for x in (k, v))
        out = q.new_empty(q.shape)  # in this order of memory, so that parts of it are views
        for rows in bands:
            queries = cells.gather(q, rows)
            found = torch.bmm(_weights(queries.flatten(0, 1), keys.fill(rows)), values.fill(rows))
            _rows_of(out, cells, rows).copy_(cells.scatter(found.view_as(queries), rows))
        return out

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401 - torch makes it
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of queries, keys and values."""
        q, k, v = ctx.saved_tensors
        cells, window = ctx.cells, ctx.window
        bands = _bands(k, cells, window)
        key_buffer, value_buffer = (_Buffer(x, window, bands[0].stop) for x in (k, v))
        grad_q, grad_k, grad_v = q.new_empty(q.shape), torch.zeros_like(k), torch.zeros_like(v)
        for rows in bands:
            gathered = cells.gather(q, rows)
            queries, keys = gathered.flatten(0, 1), key_buffer.fill(rows)
            weights = _weights(queries, keys)
            given = cells.gather(grad, rows)
            given *= cells.is_pixel[rows].flatten(0, 1).flatten(1)[..., None]
            given = given.flatten(0, 1)
            grad_weights = given @ value_buffer.fill(rows).mT
            # Of the values' buffer nothing is needed any more.
            room = value_buffer.view(len(keys))
            _add_windows(grad_v, torch.bmm(weights.mT, given, out=room), rows, window)
            by_row = (grad_weights * weights).sum(dim=2, keepdim=True)
            grad_scores = (grad_weights - by_row) * weights * 2
            found = (grad_scores @ keys).view_as(gathered)
            _rows_of(grad_q, cells, rows).copy_(cells.scatter(found, rows))
            torch.bmm(grad_scores.mT, queries, out=room)
            room.addcmul_(keys, grad_scores.sum(dim=1)[..., None], value=-1)
            _add_windows(grad_k, room, rows, window)
        return grad_q, grad_k, grad_v, None, None


def _bands(padded: Tensor, cells: _Cells, window: int) -> list[slice]:
    """Return rows of cells that are taken together; the first band is the largest."""
    of_a_row = len(padded) * cells.width * window * window * padded.shape[3]
    step = min(max(1, NUMBERS_AT_A_TIME // of_a_row), cells.height)
    starts = range(0, cells.height, step)
    return [slice(start, min(start + step, cells.height)) for start in starts]


def _rows_of(x: Tensor, cells: _Cells, rows: slice) -> Tensor:
    """Return the pixels of some rows of cells, (B, pixels, C), as a view."""
    return x[:, cells.fine_rows(rows)].flatten(1, 2)


def _add_windows(padded: Tensor, windows: Tensor, rows: slice, window: int) -> None:
    """Add what each cell has for its window to the padded map."""
    height, width = rows.stop - rows.start, padded.shape[2] - window + 1
    parts = windows.view(len(padded), height, width, window, window, -1)
    for row in range(window):
        for column in range(window):
            place = padded[:, rows.start + row : rows.stop + row, column : column + width]
            place += parts[:, :, :, row, column]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend_in_bands(
    q: Tensor, k: Tensor, v: Tensor, cells: _Cells, window: int
) -> Float[Tensor, "B H W C"]:
    """Run the function as it stands, outside of any graph."""
    out: Tensor = _WindowAttention.apply(q, k, v, cells, window)
    return out


def _attend_at_once(
    q: Tensor, k: Tensor, v: Tensor, cells: _Cells, window: int
) -> Float[Tensor, "B H W C"]:
    """Do the same with operators that a graph can hold."""
    whole = slice(0, cells.height)
    queries = cells.gather(q, whole)
    k_windows, v_windows = (_windows(x, window).flatten(3, 4).flatten(0, 2) for x in (k, v))
    found = _weights(queries.flatten(0, 1), k_windows) @ v_windows
    return cells.scatter(found.view_as(queries), whole).view_as(q)
