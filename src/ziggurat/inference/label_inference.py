"""Label maps of images of any size: in tiles, mirrored, at several sizes.

Logits of a tile are kept at the resolution of the head, where they are small. The image is then put
together piece by piece: a piece lies in the same tiles everywhere, their logits are enlarged for
this piece only and averaged (sliding windows), the probabilities of mirrored
and resized views are averaged, and the best class is taken, or every class of at least one half
where classes may overlap. What is held at once does not depend on the height of the image: the
logits of a row or two of tiles, and those of one block of pixels.

A tile is cut out of the photo and resized as a photo of its size would be, so that what the model
sees of a large photo is as fine as its tiles are small: at native scale with tiles as large as the
model's short side, and with tiles as large as the photo's short side at the scale of the whole
photo. Sliding windows (`sliding.py`) are cut out of the resized photo; their mean is one map, of as
many cells as the resized photo has pixels.

Shapes: K classes, h x w cells of the head.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int, Int16
from PIL import Image
from torch import Tensor

from ziggurat.data.segmentation import eval_image
from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.sliding import SlidingWindows, slide
from ziggurat.inference.tiles import Tiles
from ziggurat.inference.views import Region, View, whole
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.ops.memory import available_bytes
from ziggurat.ops.precision import without_autocast
from ziggurat.preprocessing import FitAligned, scaled_limits
from ziggurat.types import ClassMasks, ImageSize, LabelMap

BLOCK = 256
"""Side of the squares of pixels that are worked on at once; they depend on few cells each."""
MARGIN = 1e-3
"""Logits that bounds must differ by: more than the rounding of any interpolation."""


@dataclass(frozen=True)
class Look:
    """How a segmenter looks at an image.

    Attributes:
        tiles: How the image is cut, before it is resized or after; None shows it whole. Of
            `Tiles.whole`, which is for detectors, nothing is taken: the average would be blurred
            by it.
        augmentation: Views of the image, or of each tile.
        batch_size: Tiles or windows of one forward pass.
    """

    tiles: Tiles | SlidingWindows | None = None
    augmentation: Augmentation = Augmentation(flip=False)
    batch_size: int = 1

    @property
    def is_plain(self) -> bool:
        """Whether the image is resized as a whole, once, as it is."""
        return not isinstance(self.tiles, Tiles) and self.augmentation == Augmentation(flip=False)


@torch.inference_mode()
def segment(
    model: SemanticSegmenter, image: Image.Image, look: Look, device: torch.device
) -> LabelMap | ClassMasks:
    """Return the class of every pixel of an image, or masks of classes that may overlap.

    Args:
        model: A segmenter in eval mode on the device.
        image: RGB image.
        look: How the model looks at it.
        device: Where to compute.
    """
    size = (image.height, image.width)
    if model.overlapping:
        _require_memory(len(model.classes), size)
    if look.is_plain:
        pixels = eval_image(image, model.preprocessing)
        shown = (pixels.shape[1], pixels.shape[2])
        return model.decode(_logits(model, [pixels], look, device), [shown], [size])[0].to("cpu")
    plain = replace(look.tiles, whole=False) if isinstance(look.tiles, Tiles) else None
    regions = [whole(size)] if plain is None else plain.regions(size)
    logits: dict[Region, list[Tensor]] = {}
    decide = _likely_classes if model.overlapping else _best_class
    shape = (len(model.classes), *size) if model.overlapping else size
    found = torch.empty(shape, dtype=torch.bool if model.overlapping else torch.int16)
    for piece, above in _pieces(regions, size):
        top = piece[1]
        for region in [region for region in logits if region[1] + region[3] <= top]:
            del logits[region]  # it ends above
        missing = [region for region in above if region not in logits]
        if missing:
            # Tiles of a row are computed together, from left to right.
            row = [r for r in regions if r[1] == missing[0][1] and r not in logits]
            logits |= _look_at(model, image, row, look, device)
        with without_autocast(device):  # what was said is weighed in float32
            _fill(found, piece, {region: logits[region] for region in above}, decide)
    if model.overlapping:
        return ClassMasks(found, torch.zeros(size, dtype=torch.bool))
    return LabelMap(found)


def _require_memory(num_classes: int, size: ImageSize) -> None:
    """Raise unless masks of all classes fit into memory.

    Raises:
        ZigguratError: If they do not.
    """
    needed = num_classes * size[0] * size[1]
    left = available_bytes(torch.device("cpu"))
    if left is not None and needed > left:
        raise ZigguratError(
            f"masks of {num_classes} classes that may overlap, of a photo of {size[1]} x {size[0]} "
            f"pixels, take {needed / 1e9:.1f} GB, one byte a pixel and class, and "
            f"{left / 1e9:.1f} GB of memory are left; predict parts of the photo"
        )


def _pieces(
    regions: Sequence[Region], size: tuple[int, int]
) -> Iterator[tuple[Region, list[Region]]]:
    """Cut the image wherever a tile begins or ends.

    Yields:
        A piece and the tiles that it lies in, row by row.
    """
    columns = sorted({edge for left, _, width, _ in regions for edge in (left, left + width)})
    rows = sorted({edge for _, top, _, height in regions for edge in (top, top + height)})
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            inside = [
                (x, y, width, height)
                for x, y, width, height in regions
                if x <= left and right <= x + width and y <= top and bottom <= y + height
            ]
            yield (left, top, right - left, bottom - top), inside


def _look_at(
    model: SemanticSegmenter,
    image: Image.Image,
    regions: Sequence[Region],
    look: Look,
    device: torch.device,
) -> dict[Region, list[Tensor]]:
    """Return the logits of every view of some tiles, turned back where a view is mirrored."""
    found: dict[Region, list[Tensor]] = {region: [] for region in regions}
    for number in range(len(look.augmentation.views(regions[0]))):
        views = [look.augmentation.views(region)[number] for region in regions]
        for start in range(0, len(views), look.batch_size):
            batch = views[start : start + look.batch_size]
            tensors = [_show(image, view, model.preprocessing) for view in batch]
            raw = _logits(model, tensors, look, device).float()
            for view, logits in zip(batch, raw, strict=True):
                found[view.region].append(logits.flip(2) if view.is_mirrored else logits)
    return found


def _logits(
    model: SemanticSegmenter,
    shown: Sequence[Float[Tensor, "3 H W"]],
    look: Look,
    device: torch.device,
) -> Float[Tensor, "B K h w"]:
    """Return what the model says of views of one size, through windows if it looks so."""
    if isinstance(look.tiles, SlidingWindows):
        size, windows = look.batch_size, look.tiles
        through = [slide(model, x, windows, batch_size=size, device=device) for x in shown]
        return torch.stack(through)
    raw = model(torch.stack(list(shown)).to(device, memory_format=torch.channels_last))
    assert isinstance(raw, Tensor)
    return raw


def _show(image: Image.Image, view: View, preprocessing: FitAligned) -> Float[Tensor, "3 H W"]:
    """Make what the model gets to see."""
    left, top, width, height = view.region
    if (width, height) != image.size:
        image = image.crop((left, top, left + width, top + height))
    pixels = eval_image(image, scaled_limits(preprocessing, view.scale))
    return pixels.flip(2) if view.is_mirrored else pixels


def _fill(
    found: Int16[Tensor, "H W"] | Bool[Tensor, "K H W"],
    piece: Region,
    logits: dict[Region, list[Tensor]],
    decide: Callable[[Sequence[Sequence["_Part"]]], Tensor],
) -> None:
    """Write the classes of a piece, block by block."""
    left, top, width, height = piece
    views = list(zip(*logits.values(), strict=True))
    for y in range(top, top + height, BLOCK):
        for x in range(left, left + width, BLOCK):
            block = (x, y, min(BLOCK, left + width - x), min(BLOCK, top + height - y))
            parts = [
                [
                    _Part.of(coarse, region, block)
                    for region, coarse in zip(logits, view, strict=True)
                ]
                for view in views
            ]
            found[..., y : y + block[3], x : x + block[2]] = decide(parts).to(found.dtype).cpu()


def _best_class(views: Sequence[Sequence["_Part"]]) -> Int[Tensor, "y x"]:
    if len(views) == 1:
        return _best_of_mean(views[0])
    return torch.stack([_mean(view).softmax(dim=2) for view in views]).sum(dim=0).argmax(dim=2)


def _likely_classes(views: Sequence[Sequence["_Part"]]) -> Bool[Tensor, "K y x"]:
    probability = torch.stack([_mean(view).sigmoid() for view in views]).mean(dim=0)
    return (probability >= 0.5).permute(2, 0, 1)


def _best_of_mean(parts: Sequence["_Part"]) -> Int[Tensor, "y x"]:
    """Return the best class of each pixel; what cannot win anywhere is not enlarged."""
    # Enlarged values lie between those of the cells around.
    highest = torch.stack([part.cells.amax(dim=(0, 1)) for part in parts]).mean(dim=0)
    lowest = torch.stack([part.cells.amin(dim=(0, 1)) for part in parts]).mean(dim=0)
    possible = (highest >= lowest.max() - MARGIN).nonzero().flatten()
    return possible[_mean([part.select(possible) for part in parts]).argmax(dim=2)]


def _mean(parts: Sequence["_Part"]) -> Float[Tensor, "y x K"]:
    return torch.stack([part.enlarge() for part in parts]).mean(dim=0)


@dataclass(frozen=True)
class _Part:
    """What a block of pixels depends on in the logits of a tile.

    Attributes:
        cells: Logits of the cells in and around the block.
        rows: Weight of each row of cells for each row of pixels.
        columns: The same for columns.
    """

    cells: Float[Tensor, "h w K"]
    rows: Float[Tensor, "y h"]
    columns: Float[Tensor, "x w"]

    @classmethod
    def of(cls, coarse: Float[Tensor, "K _ _"], region: Region, block: Region) -> "_Part":
        """Cut it out of the logits of a whole tile."""
        (top, bottom, rows), (left, right, columns) = (
            _bilinear(block[i] - region[i], block[2 + i], region[2 + i], coarse.shape[2 - i])
            for i in (1, 0)
        )
        cells = coarse[:, top:bottom, left:right].permute(1, 2, 0)
        return cls(cells, rows.to(coarse.device), columns.to(coarse.device))

    def select(self, classes: Int[Tensor, " _"]) -> "_Part":
        """Keep some classes."""
        return replace(self, cells=self.cells[..., classes])

    def enlarge(self) -> Float[Tensor, "y x K"]:
        """Return the logits of every pixel."""
        by_row = torch.einsum("yh,hwk->ywk", self.rows, self.cells)
        return self.columns @ by_row


def _bilinear(
    start: int, length: int, side: int, cells: int
) -> tuple[int, int, Float[Tensor, "length part"]]:
    """Return which cells some pixels lie between, and the weight of each for each pixel.

    Args:
        start: First of the pixels.
        length: Their number.
        side: Pixels of the whole side.
        cells: Cells of the whole side.
    """
    place = ((torch.arange(start, start + length) + 0.5) * (cells / side) - 0.5).clamp(0, cells - 1)
    low = place.floor().long().clamp(max=max(cells - 2, 0))
    first, last = int(low[0]), min(int(low[-1]) + 2, cells)
    weights = torch.zeros(length, last - first)
    share = (place - low)[:, None]
    weights.scatter_(1, (low - first)[:, None], 1 - share)
    if cells > 1:
        weights.scatter_add_(1, (low - first + 1)[:, None], share)
    return first, last, weights
