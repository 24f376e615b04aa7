"""A contact sheet: many small pictures with their annotations, on one page.

Shapes: H x W a picture.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from ziggurat.class_lists import Colour
from ziggurat.ops.label_counts import count_labels
from ziggurat.types import UNLABELLED, Detections, ObjectMasks
from ziggurat.visualize.draw import READABLE_SIDE, draw_detections
from ziggurat.visualize.palettes import class_colours
from ziggurat.visualize.text import font, shorten

_CELL = READABLE_SIDE
_MARGIN = 16
_LINE = 28
_TITLE = 64
_BACKGROUND = (24, 26, 31)
_TEXT = (236, 238, 242)
_MAX_COLUMNS = 4
_OPACITY = 140
"""Of the colours of a label map, of 255."""


@runtime_checkable  # shapes are checked at run time in tests
class Annotated(Protocol):
    """A picture and what is known of it; 255 in a label map is unlabelled."""

    @property
    def image(self) -> Image.Image: ...  # noqa: D102
    @property
    def caption(self) -> str: ...  # noqa: D102
    @property
    def classes(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def objects(self) -> Detections | None: ...  # noqa: D102
    @property
    def label_map(self) -> UInt8[np.ndarray, "H W"] | None: ...  # noqa: D102
    @property
    def palette(self) -> Sequence[Colour] | None: ...  # noqa: D102


def contact_sheet(sections: Sequence[tuple[str, Sequence[Annotated]]]) -> Image.Image:
    """Draw all pictures in rows, with their annotations and captions.

    Args:
        sections: Title and pictures of each section of the page.

    Raises:
        ValueError: If there is no picture at all.
    """
    most = max((len(pictures) for _, pictures in sections), default=0)
    if most == 0:
        raise ValueError("a contact sheet needs at least one picture")
    columns = min(most, _MAX_COLUMNS)
    width = _MARGIN + columns * (_CELL + _MARGIN)
    strips = []
    for title, pictures in sections:
        strips.append(_title(title, width))
        for start in range(0, len(pictures), columns):
            strips.append(_row(pictures[start : start + columns], width))
    sheet = Image.new("RGB", (width, sum(strip.height for strip in strips)))
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def _title(text: str, width: int) -> Image.Image:
    strip = Image.new("RGB", (width, _TITLE), _BACKGROUND)
    face = font(26, bold=True)
    text = shorten(text, face, width - 2 * _MARGIN)
    ImageDraw.Draw(strip).text((_MARGIN, _TITLE // 2), text, _TEXT, face, anchor="lm")
    return strip


def _row(pictures: Sequence[Annotated], width: int) -> Image.Image:
    """Draw pictures side by side, captions below; the row is as high as its highest picture."""
    images = [_draw(picture) for picture in pictures]
    highest = max(image.height for image in images)
    num_lines = 1 if all(picture.label_map is None for picture in pictures) else 2
    strip = Image.new("RGB", (width, highest + num_lines * _LINE + _MARGIN), _BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for index, (picture, image) in enumerate(zip(pictures, images, strict=True)):
        left = _MARGIN + index * (_CELL + _MARGIN)
        strip.paste(image, (left + (_CELL - image.width) // 2, (highest - image.height) // 2))
        face = font(17)
        caption = shorten(picture.caption, face, _CELL)
        draw.text((left, highest + _LINE // 2), caption, _TEXT, face, anchor="lm")
        if picture.label_map is not None:
            place = (left, highest + _LINE + _LINE // 2)
            _draw_legend(draw, picture, picture.label_map, place)
    return strip


def _draw(picture: Annotated) -> Image.Image:
    """Scale a picture to the cell and draw its annotations."""
    scale = _CELL / max(picture.image.size)
    width, height = (max(1, round(side * scale)) for side in picture.image.size)
    image = picture.image.resize((width, height), Image.Resampling.BICUBIC)
    if picture.objects is not None:
        objects = _resize(picture.objects, scale, image.size)
        image = draw_detections(image, objects, picture.classes, show_scores=False)
    if picture.label_map is not None:
        image = _tint(image, picture.label_map, _colours(picture))
    return image


def _resize(objects: Detections, scale: float, size: tuple[int, int]) -> Detections:
    masks = objects.masks
    if masks is not None:
        masks = _resize_masks(masks, scale, size)
    points = None if objects.keypoints is None else objects.keypoints.scale((scale, scale))
    return replace(objects, boxes=objects.boxes * scale, masks=masks, keypoints=points)


def _resize_masks(masks: ObjectMasks, scale: float, size: tuple[int, int]) -> ObjectMasks:
    pixels, windows = [np.zeros(0, dtype=bool)], []
    for crop, (left, top, width, height) in zip(masks.crops(), masks.windows.tolist(), strict=True):
        x1, x2 = (min(round(x * scale), size[0]) for x in (left, left + width))
        y1, y2 = (min(round(y * scale), size[1]) for y in (top, top + height))
        windows.append((x1, y1, x2 - x1, y2 - y1))
        if x2 > x1 and y2 > y1:
            small = Image.fromarray(crop.numpy()).resize((x2 - x1, y2 - y1))
            pixels.append(np.array(small).ravel())
    return ObjectMasks(
        torch.from_numpy(np.concatenate(pixels)),
        torch.tensor(windows, dtype=torch.int64).reshape(-1, 4),
        (size[1], size[0]),
    )


def _colours(picture: Annotated) -> UInt8[np.ndarray, "K 3"]:
    """Return the data set's own colours, or those that its classes have elsewhere."""
    if picture.palette is not None:
        return np.array(picture.palette, dtype=np.uint8)
    return class_colours(picture.classes)


def _tint(
    image: Image.Image, label_map: UInt8[np.ndarray, "H W"], colours: UInt8[np.ndarray, "K 3"]
) -> Image.Image:
    """Lay the colour of its class over each labelled pixel."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(colours)] = colours
    resized = Image.fromarray(label_map).resize(image.size, Image.Resampling.NEAREST)
    values = np.array(resized)
    opacity = Image.fromarray(np.where(values < UNLABELLED, _OPACITY, 0).astype(np.uint8))
    return Image.composite(Image.fromarray(table[values]), image, opacity)


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    picture: Annotated,
    label_map: UInt8[np.ndarray, "H W"],
    place: tuple[int, int],
) -> None:
    """Name the classes of a label map, the largest first, as far as there is room."""
    counts = count_labels(label_map, UNLABELLED)
    colours = _colours(picture).tolist()
    face = font(15)
    x, y = place
    for label in np.argsort(-counts, kind="stable").tolist()[: np.count_nonzero(counts)]:
        name = picture.classes[label]
        end = x + 16 + round(face.getlength(name))
        if end > place[0] + _CELL:
            return
        draw.rectangle((x, y - 6, x + 11, y + 5), tuple(colours[label]), _TEXT)
        draw.text((x + 16, y), name, _TEXT, face, anchor="lm")
        x = end + 12
