"""Label maps of images of any size: in tiles, mirrored, at several sizes.

Logits of a tile are kept at the resolution of the head, where they are small. The image is then put
together piece by piece: a piece lies in the same tiles everywhere, their logits are enlarged for
this piece only and averaged (sliding windows, as in MMSegmentation), the probabilities of mirrored
and resized views are averaged, and the best class is taken. What is held at once depends neither on
the number of classes nor on the height of the image: the logits of a row of tiles and one piece.

Shapes: K classes, h x w cells of the head.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int16
from PIL import Image
from torch import Tensor

from ziggurat.data.segmentation import eval_image
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.tiles import Tiles
from ziggurat.inference.views import Region, View, whole
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.types import FitAligned, LabelMap

PIECE_VALUES = 32_000_000
"""Enlarged logits that are held at once: 128 MB."""


@dataclass(frozen=True)
class Look:
    """How a segmenter looks at an image.

    Attributes:
        tiles: How the image is cut; None shows it whole. Of `Tiles.whole`, which is for detectors,
            nothing is taken: the average would be blurred by it.
        augmentation: Views of the image, or of each tile.
        batch_size: Tiles of one forward pass.
    """

    tiles: Tiles | None = None
    augmentation: Augmentation = Augmentation(flip=False)
    batch_size: int = 1

    @property
    def is_plain(self) -> bool:
        """Whether the whole image is seen once, as it is."""
        return self.tiles is None and self.augmentation == Augmentation(flip=False)


@torch.inference_mode()
def segment(
    model: SemanticSegmenter, image: Image.Image, look: Look, device: torch.device
) -> LabelMap:
    """Return the class of every pixel of an image.

    Args:
        model: A segmenter in eval mode on the device.
        image: RGB image.
        look: How the model looks at it.
        device: Where to compute.
    """
    size = (image.height, image.width)
    if look.is_plain:
        pixels = eval_image(image, model.preprocessing)[None].to(device)
        shown = (pixels.shape[2], pixels.shape[3])
        raw = model(pixels.contiguous(memory_format=torch.channels_last))
        assert isinstance(raw, Tensor)
        return model.decode(raw, [shown], [size])[0].to("cpu")
    plain = None if look.tiles is None else replace(look.tiles, whole=False)
    regions = [whole(size)] if plain is None else plain.regions(size)
    logits: dict[Region, list[Tensor]] = {}
    labels = torch.empty(size, dtype=torch.int16)
    for piece, above in _pieces(regions, size):
        top = piece[1]
        for region in [region for region in logits if region[1] + region[3] <= top]:
            del logits[region]  # it ends above
        missing = [region for region in above if region not in logits]
        if missing:
            # Tiles of a row are computed together, from left to right.
            row = [r for r in regions if r[1] == missing[0][1] and r not in logits]
            logits |= _look_at(model, image, row, look, device)
        _fill(labels, piece, {region: logits[region] for region in above})
    return LabelMap(labels)


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
            raw = model(torch.stack(tensors).to(device, memory_format=torch.channels_last))
            assert isinstance(raw, Tensor)
            for view, logits in zip(batch, raw.float(), strict=True):
                found[view.region].append(logits.flip(2) if view.is_mirrored else logits)
    return found


def _show(image: Image.Image, view: View, preprocessing: FitAligned) -> Float[Tensor, "3 H W"]:
    """Make what the model gets to see."""
    left, top, width, height = view.region
    if (width, height) != image.size:
        image = image.crop((left, top, left + width, top + height))
    limits = replace(
        preprocessing,
        short_side=max(1, round(preprocessing.short_side * view.scale)),
        long_side=max(1, round(preprocessing.long_side * view.scale)),
    )
    pixels = eval_image(image, limits)
    return pixels.flip(2) if view.is_mirrored else pixels


def _fill(labels: Int16[Tensor, "H W"], piece: Region, logits: dict[Region, list[Tensor]]) -> None:
    """Write the best classes of a piece, band by band."""
    left, top, width, height = piece
    views = list(zip(*logits.values(), strict=True))
    num_classes = views[0][0].shape[0]
    rows = max(1, PIECE_VALUES // (num_classes * width))
    for begin in range(top, top + height, rows):
        end = min(begin + rows, top + height)
        band = (left, begin, width, end - begin)
        total: Tensor | None = None
        for of_view in views:
            mean = torch.zeros(())
            for region, coarse in zip(logits, of_view, strict=True):
                mean = mean.to(coarse.device) + _enlarge(coarse, region, band) / len(logits)
            if len(views) > 1:
                mean = mean.softmax(dim=0)
            total = mean if total is None else total + mean
        assert total is not None
        best = total.argmax(dim=0).to(torch.int16)
        labels[begin:end, left : left + width] = best.cpu()


def _enlarge(
    coarse: Float[Tensor, "K h w"], region: Region, band: Region
) -> Float[Tensor, "K _ _"]:
    """Return the logits of a part of a tile, bilinear between the cells, pixel by pixel."""
    x, y = (
        (2 * (torch.arange(length, device=coarse.device) + start - corner) + 1) / side - 1
        for start, length, corner, side in zip(
            band[:2], band[2:], region[:2], region[2:], strict=True
        )
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return F.grid_sample(
        coarse[None], grid[None].float(), padding_mode="border", align_corners=False
    )[0]
